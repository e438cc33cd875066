# shellcheck shell=sh
# Sourced by the scripts that install what is missing: apt_install PACKAGE... installs what is
# not there yet, says so first, and tries once more when the archive stumbles. Uses sudo when it
# is not run by root. Returns 1, with a line, where that cannot be done.

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

apt_missing() {
    for package in "$@"; do
        status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$status" = installed ] || echo "$package"
    done
}

apt_install() {
    missing=$(apt_missing "$@" | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "missing: $missing- and no apt-get here to install it with" >&2
        return 1
    fi
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        echo "missing: $missing- become root and run: apt-get install $missing" >&2
        return 1
    fi
    echo "installing with apt: $missing"
    for attempt in first second; do
        # An index that cannot be read is no reason to stop: the install says what is missing.
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q || true
        # shellcheck disable=SC2086 # one word a package
        if as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -q -y --no-install-recommends $missing; then
            # Wanted as a program: its service would take the gateway's port 1883.
            case " $missing" in *" mosquitto "*)
                [ ! -d /run/systemd/system ] || as_root systemctl disable --now mosquitto || true
                ;;
            esac
            return 0
        fi
        echo "the $attempt try to install $missing failed" >&2
    done
    return 1
}
