# shellcheck shell=bash
# Sourced by the scripts beside it: Debian packages, Rust, and where cargo puts programs.
#
# Goes in: names of packages. Comes out: a machine that has them. Invariant: apt runs only when
# something is missing, and says first what it installs.

# Tells a person what happens, apart from what programs print.
say() {
    printf '==> %s\n' "$*"
}

# Ends the script with a message.
give_up() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Installs those of the Debian packages that are missing.
require_packages() {
    local package missing=()
    for package in "$@"; do
        if ! dpkg-query --show --showformat='${db:Status-Abbrev}\n' "$package" 2>/dev/null |
            grep -q '^.i'; then
            missing+=("$package")
        fi
    done
    if ((${#missing[@]} == 0)); then
        return
    fi
    if ! command -v apt-get >/dev/null; then
        give_up "this needs Debian or Ubuntu, or by other means: ${missing[*]}"
    fi
    if ((EUID != 0)); then
        give_up "missing: ${missing[*]}
  as root, run: apt-get update && apt-get install --yes --no-install-recommends ${missing[*]}"
    fi
    say "installing with apt: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update --quiet --quiet </dev/null
    apt-get install --quiet --quiet --yes --no-install-recommends \
        -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 "${missing[@]}" </dev/null
}

# Finds cargo, also where rustup puts it without the shell's profile.
require_rust() {
    if ! command -v cargo >/dev/null && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
        export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    fi
    command -v cargo >/dev/null ||
        give_up "there is no cargo: install Rust 1.95 or newer, for instance from https://rustup.rs"
}

# Prints the folder that cargo builds in.
target_folder() {
    cargo metadata --format-version 1 --no-deps |
        sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}

# Prints the folder that holds the release programs.
programs_folder() {
    local triple=${CARGO_BUILD_TARGET:-}
    if [[ -z $triple || $triple == host-tuple ]]; then
        triple=$(rustc --version --verbose | sed -n 's/^host: //p')
    fi
    printf '%s/%s/release\n' "$(target_folder)" "$triple"
}
