/* A stand-in for NVIDIA's management library, for machines without a GPU: what the tests need of its interface,
   behind the real Python binding. It has two GPUs, and a part of the second one that is a device of its own (MIG).

   The file that NVML_STATE names says what it answers, a line each, read anew at every call:
       energy GPU MILLIJOULES    process GPU PID BYTES    error FUNCTION CODE */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };
enum { MIG = 2, DEVICES = 3 };
typedef int *Device;
typedef struct { unsigned pid; unsigned long long memory; unsigned instance, compute; } Process;

static int devices[DEVICES] = {0, 1, MIG};
static const char *uuids[DEVICES] = {"GPU-aaaa-0", "GPU-bbbb-1", "MIG-cccc-2"};
static const char *names[DEVICES] = {"NVIDIA Stand-In 80GB", "NVIDIA Stand-In 80GB", "NVIDIA Stand-In MIG 1g.10gb"};

/* The next line of the state that begins with `word`; its three fields. */
static int next(FILE *file, const char *word, char *first, unsigned long long *second, unsigned long long *third) {
    char line[256], key[64];
    while (file && fgets(line, sizeof line, file)) {
        *second = *third = 0;
        if (sscanf(line, "%63s %63s %llu %llu", key, first, second, third) >= 3 && !strcmp(key, word)) return 1;
    }
    return 0;
}

static FILE *state(void) {
    const char *path = getenv("NVML_STATE");
    return path ? fopen(path, "r") : NULL;
}

static int error_of(const char *function) {
    char name[64];
    unsigned long long code, none, found = SUCCESS;
    FILE *file = state();
    while (next(file, "error", name, &code, &none))
        if (!strcmp(name, function)) found = code;
    if (file) fclose(file);
    return (int)found;
}

#define CHECKED do { int error = error_of(__func__); if (error) return error; } while (0)

static int text(char *to, unsigned size, const char *from) {
    snprintf(to, size, "%s", from);
    return SUCCESS;
}

int nvmlInit_v2(void) { CHECKED; return SUCCESS; }
int nvmlInitWithFlags(unsigned flags) { (void)flags; CHECKED; return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { (void)code; return "an error"; }
int nvmlSystemGetDriverVersion(char *to, unsigned size) { CHECKED; return text(to, size, "580.1.2"); }
int nvmlDeviceGetCount_v2(unsigned *count) { CHECKED; *count = MIG; return SUCCESS; }
int nvmlDeviceGetName(Device device, char *to, unsigned size) { CHECKED; return text(to, size, names[*device]); }
int nvmlDeviceGetUUID(Device device, char *to, unsigned size) { CHECKED; return text(to, size, uuids[*device]); }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *device) {
    CHECKED;
    if (index >= MIG) return INVALID_ARGUMENT;
    *device = &devices[index];
    return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, Device *device) {
    CHECKED;
    for (int one = 0; one < DEVICES; one++)
        if (!strcmp(uuid, uuids[one])) { *device = &devices[one]; return SUCCESS; }
    return NOT_FOUND;
}

int nvmlDeviceGetTotalEnergyConsumption(Device device, unsigned long long *spent) {
    CHECKED;
    if (*device == MIG) return NOT_SUPPORTED;
    char name[64];
    unsigned long long energy, none;
    FILE *file = state();
    *spent = 0;
    while (next(file, "energy", name, &energy, &none))
        if (atoi(name) == *device) *spent = energy;
    if (file) fclose(file);
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned *count, Process *to) {
    CHECKED;
    char name[64];
    unsigned found = 0, room = *count;
    unsigned long long pid, memory;
    FILE *file = state();
    while (next(file, "process", name, &pid, &memory)) {
        if (atoi(name) != *device) continue;
        if (found < room) to[found] = (Process){(unsigned)pid, memory, 0, 0};
        found++;
    }
    if (file) fclose(file);
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}
