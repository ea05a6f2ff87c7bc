#!/usr/bin/env bash
# Makes a checkout ready to run: system packages, a virtual environment, the pinned requirements, the project itself.
# Whatever is there already is left alone; when nothing is missing it ends in a fraction of a second.
# usage: scripts/bootstrap.sh VENV             (VENV: folder of the virtual environment)
# PYTHON=… chooses the interpreter; otherwise the first that fits of those named below.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1

# softhsm2: the test token. openssl: test CA and the independent checks. pinentry-*: real PIN dialogs, driven through tmux.
# unzip: a second opinion on the packages we write. curl: the README's other client. procps: ps, to look for dialogs.
# gcc and libssl-dev build the soft SKF and PKCS#11 tokens of the tests.
# libusb-1.0-0: lists USB (pyusb); it brings libudev, which tells of changes. umockdev: USB keys for tests, without USB.
# pcscd, vsmartcard-vpcd and opensc-pkcs11 are the smart-card stack of the tests, which start their own pcscd; the package's
# service is socket-activated where there is systemd, and does nothing elsewhere.
# dbus-daemon and dbus-bin: private buses on which the tests lock the screen, and dbus-send for signals of strangers.
# pinentry-gtk2 and pinentry-qt: graphical prompts, on the screen of xvfb (35 MB on disk, most of it Qt); xdotool types
# and clicks, and evilwm is the smallest window manager: without one no window has the focus, or can be closed.
# The font is a Song face of 1.7 MB, the smallest one that draws a Chinese seal as seals are drawn.
packages=(softhsm2 openssl pinentry-tty pinentry-curses tmux unzip curl procps fonts-arphic-gbsn00lp
    gcc make libc6-dev libssl-dev libusb-1.0-0 umockdev pcscd vsmartcard-vpcd opensc-pkcs11
    dbus-daemon dbus-bin pinentry-gtk2 pinentry-qt xvfb xdotool evilwm)
# chromium and its driver: pages and extensions in a real browser (120 MB to fetch, 440 MB on disk). Ubuntu has it as a
# snap only, which no test can drive: there, the tests say that it is missing.
[[ $(sed -n 's/^ID=//p' /etc/os-release 2>/dev/null) == ubuntu ]] || packages+=(chromium chromium-driver)

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

# install_packages NAME…  Through apt, as root or with sudo; only what dpkg does not have.
install_packages() {
    local missing=() name as_root=()
    if ! command -v dpkg-query >/dev/null; then
        say "not a Debian or Ubuntu system; make sure that you have what these packages hold: $*"
        return
    fi
    for name in "$@"; do
        [[ $(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || missing+=("$name")
    done
    ((${#missing[@]})) || return 0
    if ((EUID != 0)); then
        command -v sudo >/dev/null || die "these packages are missing; install them as root, then run again: ${missing[*]}"
        as_root=(sudo)
        [[ -t 0 ]] || as_root=(sudo -n)  # nobody there to type a password: fail instead of waiting
    fi
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
    local install=("${apt[@]}" install -y --no-install-recommends "${missing[@]}")
    say "installing ${missing[*]}"
    # The lists on the machine may be absent or old: refresh them only when the first try fails. No lock is handed down.
    "${install[@]}" >/dev/null 2>&1 9>&- || { "${apt[@]}" update >&2 9>&- && "${install[@]}" >&2 9>&-; } ||
        die "apt could not install: ${missing[*]}"
}

# Prints the interpreter to use: one that can make virtual environments, else one that apt can complete.
find_python() {
    local name test
    for test in 'import ensurepip, venv' 'pass'; do
        for name in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
            # A shim on the path may exist and still refuse to run, so each candidate is tried.
            if "$name" -c "import sys; sys.version_info >= (3, 11) or sys.exit(1); $test" 2>/dev/null; then
                echo "$name"
                return
            fi
        done
    done
    die "Python 3.11 or newer is needed, and none of these is one: ${PYTHON:-python3.13 python3.12 python3.11 python3}" \
        "(install python3.11 or newer, or name one with PYTHON=…)"
}

# Tk for our own dialog and its tests: a package of its own where Python is the distribution's. Any other Python was built
# with Tk or without; set-up goes on without it, and the tests say what is missing.
install_tk() {
    "$venv/bin/python" -c 'import _tkinter' 2>/dev/null && return
    local base
    base=$("$venv/bin/python" -c 'import os, sys; print(os.path.realpath(sys._base_executable))')
    if command -v dpkg-query >/dev/null && dpkg-query -S "$base" >/dev/null 2>&1; then
        install_packages python3-tk
    else
        say "$base was built without Tk; the tests of our own dialog will say so"
    fi
}

# Prints what the virtual environment was made from; it is made anew when this changes.
venv_key() {
    echo "$PWD ${PYTHON:-} $("$venv/bin/python" -V 2>&1) $(sha256sum <requirements/dev.txt)"
}

# Prints what the installed project's metadata was made from.
project_key() {
    sha256sum <pyproject.toml
}

# Errors only: pip warns of each index that does not know a package.
pip_install() {
    PIP_USER=0 "$venv/bin/python" -m pip -qq --disable-pip-version-check --no-input install "$@"
}

make_venv() {
    local python
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        install_packages "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    fi
    if [[ -e $venv && ! -f $venv/pyvenv.cfg && -n $(ls -A "$venv") ]]; then
        die "$venv is no virtual environment; it is left alone (name another folder with VENV=…)"
    fi
    say "making $venv with $("$python" -V), and installing the pinned requirements"
    # What the tests of 32-bit workers need: 25 MB from the distribution, once, while pip is at work. Set-up goes on
    # without it: the product needs none of it, and the tests try again and say what is missing.
    local i386=
    if [[ $(dpkg --print-architecture 2>/dev/null) == amd64 ]]; then
        trap wait EXIT  # it does not outlive set-up
        scripts/i386.sh >/dev/null 9>&- &
        i386=$!
    fi
    "$python" -m venv --clear "$venv"
    pip_install --require-hashes -r requirements/dev.txt
    [[ -z $i386 ]] || wait "$i386" || say "there is no 32-bit Python; the tests of 32-bit workers will say so"
}

mkdir -p "$(dirname "$venv")"
exec 9>"$venv.lock"
flock 9  # two makes at once: the second waits, then finds everything done

install_packages "${packages[@]}"
stamp=$venv/sealagent.stamp
venv_was='' project_was=''
if [[ -f $stamp ]]; then
    { read -r venv_was && read -r project_was; } <"$stamp" || true
fi
if [[ $venv_was != "$(venv_key)" ]]; then
    make_venv
    project_was=
fi
install_tk
if [[ $project_was != "$(project_key)" ]]; then
    pip_install --no-deps --no-build-isolation --editable .
    printf '%s\n' "$(venv_key)" "$(project_key)" >"$stamp"
fi
