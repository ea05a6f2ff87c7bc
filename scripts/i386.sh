#!/usr/bin/env bash
# Makes a folder with a 32-bit (i386) Python, a C compiler for it and OpenSSL, and prints its name. For the tests of 32-bit
# workers; the product needs none of it. bin/python and bin/cc in the folder run the two.
# Nothing is installed: the distribution's own packages, checked by apt, are unpacked into the user's cache, with an apt
# state of their own. An i386 architecture added to dpkg would bind the machine's libraries to the versions of the other.
# usage: scripts/i386.sh     Exit status 3: this machine cannot have it, the last line says why. 1: something failed.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'i386: %s\n' "$*" >&2; }
# shellcheck source=/dev/null
release=$(. /etc/os-release 2>/dev/null && echo "${ID:-}-${VERSION_ID:-}") || release=
key=$({ cat scripts/i386.sh; echo "$release"; } | sha256sum | cut -c 1-16)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/sealagent/i386-$key

# unable REASON  What will not change by trying again.
unable() {
    say "$@"
    exit 3
}

architecture=$(dpkg --print-architecture 2>/dev/null) || unable "32-bit programs are tried on Debian and Ubuntu only"
[[ $architecture == amd64 ]] || unable "32-bit programs are tried on amd64 only, and this machine is $architecture"

mkdir -p "${folder%/*}"
exec 8>"$folder.lock"
flock 8
if [[ -f $folder/unable ]]; then
    unable "$(<"$folder/unable")"
elif [[ -x $folder/bin/python ]]; then
    echo "$folder"
    exit
fi

work=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$work"' EXIT
tree=$work/tree
mkdir -p "$work"/{state/lists/partial,cache/archives/partial,packages,bin} "$tree/usr/lib"
ln -s usr/lib "$tree/lib"  # as merged systems have it; the packages of older ones bring both
: >"$work/status"
# Without the machine's hooks: they are about what is installed. As root apt would download as a user who cannot get here.
cat >"$work/apt.conf" <<END
#clear APT::Architectures;
#clear APT::Update;
#clear DPkg;
APT::Architecture "i386";
APT::Architectures { "i386"; };
APT::Sandbox::User "root";
Dir::State "$work/state";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
END

# needs PACKAGE PATTERN  Print the first package of that pattern that another one depends on.
needs() {
    { apt-cache -c "$work/apt.conf" depends "$1" 2>/dev/null || true; } | sed -n "s/.*Depends: \($2\)\$/\1/p" | head -n 1
}

say "fetching a 32-bit Python and OpenSSL for the tests"
# A source that has no i386, or does not answer, is no reason to stop: what counts is whether the packages come.
apt-get -qq -c "$work/apt.conf" update >"$work/said" 2>&1 8>&- || true
python=$(needs python3-minimal 'python3\.[0-9]*-minimal')
python=${python%-minimal}
crypto=$(needs libssl-dev 'libssl3[a-z0-9]*')
if [[ -z $python || -z $crypto ]]; then
    cat "$work/said" >&2
    say "apt knows no i386 package of Python and OpenSSL 3"
    exit 1
fi
if ((${python#python3.} < 11)); then
    mkdir -p "$folder"
    echo "the distribution's 32-bit Python is $python, and the worker needs 3.11" | tee "$folder/unable" >&2
    exit 3
fi
# libffi: ctypes. zlib1g and libzstd1: libcrypto, by release. libgcc-s1: 64-bit division.
packages=("$python-minimal" "lib$python-minimal" "lib$python-stdlib" "$(needs "lib$python-stdlib" 'libffi[0-9]*')"
    libexpat1 zlib1g libzstd1 "$crypto" libc6 libgcc-s1 libssl-dev libc6-dev linux-libc-dev)
if ! (cd "$work/packages" && apt-get -qq -c "$work/apt.conf" download "${packages[@]}" >"$work/said" 2>&1 8>&-); then
    cat "$work/said" >&2
    say "apt could not fetch: ${packages[*]}"
    exit 1
fi
for package in "$work"/packages/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x -C "$tree" --no-same-owner --keep-directory-symlink --exclude=./usr/share \
        --exclude='*/libssl.a' --exclude='*/libcrypto.a'
done
say "fetched $(du -ch "$work"/packages/*.deb | tail -n 1 | cut -f 1)"
rm -rf "$work"/{state,cache,packages,status,said,apt.conf}

# Both run from where they lie: the loader is told where the libraries are, the compiler where headers and libraries are.
# Without libgcc's own files (7 MB more): a shared library starts without them, and its functions are in libgcc_s.
libraries=$folder/tree/usr/lib/i386-linux-gnu
cat >"$work/bin/python" <<END
#!/bin/sh
exec "$folder/tree/lib/ld-linux.so.2" --library-path "$libraries" "$folder/tree/usr/bin/$python" "\$@"
END
cat >"$work/bin/cc" <<END
#!/bin/sh
exec gcc -m32 --sysroot="$folder/tree" -B"$libraries" "\$@" -nostdlib -lc -l:libgcc_s.so.1
END
chmod 755 "$work" "$work"/bin/*
rm -rf "$folder"
mv "$work" "$folder"
status=0
"$folder/tree/lib/ld-linux.so.2" --version >/dev/null 2>&1 || status=$?
if ((status == 126)); then  # ENOEXEC
    rm -rf "$folder/bin"
    echo "this system runs no 32-bit programs (the kernel's IA32 emulation)" | tee "$folder/unable" >&2
    exit 3
fi
if ! "$folder/bin/python" -I -c 'import ctypes, json, struct; assert struct.calcsize("P") == 4' >&2; then
    rm -rf "$folder/bin"
    say "the 32-bit Python does not start"
    exit 1
fi
echo "$folder"
