"""What a release leaves on a host, read by the host's own tools and by none of ours, so that two ends can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import unified_diff

from tests.support.released_host import ReleasedHost

FOLDERS = "/etc/cpq-oms /etc/systemd/system /etc/kafka /etc/zeebe /etc/redis /etc/postgresql /usr/local/bin"
# Stands for the release's id in a look that reads what has it.
RELEASE = "%RELEASE%"
# They come and go by their timers.
COMING_AND_GOING = "Id=cpq-oms-(reconcile|drift|smoke).service"
LOOKS: Mapping[str, str] = {
    "modes and owners": f"find {FOLDERS} -printf '%p %M %U:%G %l\\n' 2>&1 | sort",
    "contents": f"find {FOLDERS} -type f | sort | while read -r file; do "
    f"echo $(sed 's/{RELEASE}/RELEASE/g' $file | sha256sum) $file; done",
    "releases": "find /opt/cpq-oms -maxdepth 3 \\( -name current -or -path '*/releases/*' \\) -printf '%p %l\\n' | sort",
    "units": "systemctl show --all 'cpq-oms*' postgresql@* redis-server kafka zeebe "
    f"--property=Id,ActiveState,UnitFileState,MainPID | awk -v RS= '!/{COMING_AND_GOING}/ {{ $1 = $1; print }}' | sort",
    "packages": "dpkg-query --show --showformat '${Package} ${Version} ${db:Status-Abbrev}\\n'",
    # The lines left out are a random word against terminal tricks.
    "schema": "runuser -u postgres -- pg_dump --schema-only cpq | grep -vE '^.(un)?restrict '",
    "migrations": "runuser -u postgres -- psql -qAtX cpq -c 'TABLE cpq.migration_ledger ORDER BY 1'",
}


def end_state(host: ReleasedHost, release_id: str = RELEASE) -> dict[str, str]:
    """Look at everything; where the ends of two releases are to be compared, each is told its id, which then makes no difference."""
    return {
        name: host.run(command.replace(RELEASE, release_id)).stdout.replace(release_id, "RELEASE")
        for name, command in LOOKS.items()
    }


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Show what differs between two ends, by lines; nothing when they are the same."""
    return [
        line
        for name in LOOKS
        for line in unified_diff(before[name].splitlines(), after[name].splitlines(), name, name, lineterm="", n=0)
    ]
