"""Which folders other machines may write to."""

from __future__ import annotations

from pathlib import Path

import pytest

from claimbook.index import is_network

MOUNTS = r"""
22 28 0:21 / /proc rw,nosuid shared:14 - proc proc rw
28 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 28 0:40 / /mnt/team rw,relatime shared:20 - nfs4 server:/export/team rw,vers=4.2
41 40 8:17 / /mnt/team/local rw - xfs /dev/sdb1 rw
42 28 0:42 / /mnt/our\040share rw,relatime - cifs //server/share rw
43 28 0:43 / /home/lee/remote rw - fuse.sshfs lee@server:/ rw
44 28 0:44 / /mnt/over rw - nfs server:/a rw
45 28 8:33 / /mnt/over rw - ext4 /dev/sdc1 rw
46 28 0:46 / /mnt/data rw - fuse.mergerfs disks rw
47 28 0:47 / /mnt/lustre rw - lustre mgs@tcp:/work rw
48 28 0:48 / /mnt/ntfs rw - fuseblk /dev/sdd1 rw
49 28 0:49 / /mnt/bucket rw - fuse.gcsfuse bucket rw
"""


@pytest.mark.parametrize(
    ("path", "network"),
    [
        ("/srv/claims", False),
        ("/mnt/team/claims", True),
        ("/mnt/team", True),
        ("/mnt/teamwork", False),
        ("/mnt/team/local/claims", False),
        ("/mnt/our share/claims", True),
        ("/home/lee/remote/claims", True),
        ("/mnt/over/claims", False),
        ("/mnt/data/claims", False),
        ("/mnt/lustre/claims", True),
        ("/mnt/ntfs/claims", False),
        ("/mnt/bucket/claims", True),
    ],
)
def test_the_deepest_mount_above_a_path_decides(path, network):
    assert is_network(Path(path), MOUNTS) is network


def test_a_table_that_is_torn_says_no():
    assert is_network(Path("/mnt/team/claims"), MOUNTS[:60] + "\n40 28 0:40") is False
