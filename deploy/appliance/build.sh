#!/usr/bin/env bash
# Builds a bootable Debian 12 with the appliance in it: engine, both doors, a model, huge pages and CPUs of their own, a card
# for the door past the kernel.
#
#     deploy/appliance/build.sh [options] FOLDER
#
#   --build DIR          the programs as built on Debian 12 [build/release]
#   --model PATH         a .gguf file or a Hugging Face folder, into /var/lib/tessera/models [the default model]
#   --etc DIR            its files replace the examples in /etc/tessera: engine.conf, dataplane.conf, bypass.conf, keys,
#                        certificate.pem, key.pem
#   --engine-cpus LIST   CPUs that are the engine's alone [1]
#   --door-cpus LIST     CPUs that are tessera-bypass's alone [2]
#   --other-cpus LIST    CPUs for all the rest [0]
#   --huge-pages N       of 2 MiB, reserved at boot [448]
#   --kernel PACKAGE     [linux-image-cloud-amd64; linux-image-amd64 where there is real hardware]
#   --size SIZE          of the file system [3G]
#   --tests              the repository too, as it is built, in /usr/src/tessera, and what its tests need. They want it where
#                        it lies here: mkdir -p TOP && mount --bind /usr/src/tessera TOP
#
# FOLDER then holds root.ext4, vmlinuz, initrd.img and cmdline: what `run.sh FOLDER` boots. Packages come from where this
# machine's own do (apt's sources), and are fetched once: FOLDER/base-*.tar keeps them for the next build.
# Needs mmdebstrap and e2fsprogs, and root, or a user with subordinate uids (/etc/subuid).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)

fail() {
    echo "appliance: $*" >&2
    exit 1
}

build=$top/build/release model= etc= engine_cpus=1 door_cpus=2 other_cpus=0 pages=448 kernel= size=3G tests=no folder=
arguments=("$@")
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help)
        sed -n '2,/^set -euo/{/^set/d;s/^# \{0,1\}//;p}' "$0"
        exit 0
        ;;
    --tests) tests=yes ;;
    --build | --model | --etc | --engine-cpus | --door-cpus | --other-cpus | --huge-pages | --kernel | --size)
        [ $# -gt 1 ] || fail "$1 takes a value; --help says which"
        case $1 in
        --build) build=$2 ;;
        --model) model=$2 ;;
        --etc) etc=$2 ;;
        --engine-cpus) engine_cpus=$2 ;;
        --door-cpus) door_cpus=$2 ;;
        --other-cpus) other_cpus=$2 ;;
        --huge-pages) pages=$2 ;;
        --kernel) kernel=$2 ;;
        --size) size=$2 ;;
        esac
        shift
        ;;
    -*) fail "'$1' was not expected; --help says how" ;;
    *)
        [ -z "$folder" ] || fail "one folder is built at a time, not '$folder' and '$1'"
        folder=$1
        ;;
    esac
    shift
done
[ -n "$folder" ] || fail "name the folder to build in; --help says how"
for tool in mmdebstrap mke2fs dpkg-query; do
    command -v $tool >/dev/null || fail "$tool is missing: apt-get install mmdebstrap e2fsprogs"
done
[ -x "$build/engine/serve/tessera-engine" ] || fail "$build has no programs: cmake --preset release && cmake --build build/release"
[ -n "$model" ] || model=$("$top/deploy/fetch-model.sh")
[ -e "$model" ] || fail "there is no model $model"

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
build=$(cd "$build" && pwd)
work=$(mktemp -d "$folder/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root

# ---- The system

# The Debian packages that hold the libraries of these programs.
packages_of() {
    ldd "$@" 2>/dev/null | sed -n 's/.*=> \([^ ]*\) .*/\1/p' | sort -u | while read -r library; do
        dpkg-query -S "*${library#/usr}" | sed 's/[:,].*//'
    done | sort -u
}
# The groups of packages.txt.
group() { sed -n "s/^$1 //p" "$here/packages.txt"; }
# apt's own sources, as far as they are Debian's of this release.
sources() {
    apt-get indextargets --format '$(ORIGIN)|deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        sed -n 's/^Debian\( Backports\)\{0,1\}|//p' | grep ' bookworm[^ ]* '
}

DESTDIR=$work/programs cmake --install "$build" --strip >"$work/install.log" 2>&1 ||
    fail "cmake --install: $(tail -n 3 "$work/install.log")"
mapfile -t programs < <(find "$work/programs" -type f -perm /111)
wanted=$(
    packages_of "${programs[@]}"
    group system
    group dpdk
    if [ $tests = yes ]; then
        group tests
        packages_of $(find "$build/tests" -type f -perm /111)
    fi
    echo "${kernel:-$(group kernel)}"
)
wanted=$(sort -u <<<"$wanted" | paste -sd,)
base=$folder/base-$(cksum <<<"$wanted" | cut -d ' ' -f 1).tar
if [ ! -f "$base" ]; then
    echo "Fetching Debian's packages ..."
    sources >"$work/sources.list"
    [ -s "$work/sources.list" ] || fail "apt's sources name no Debian 12"
    mmdebstrap --quiet --mode="$([ "$(id -u)" = 0 ] && echo root || echo unshare)" --format=tar --variant=minbase --skip=check/qemu --include="$wanted" \
        --aptopt='APT::Install-Recommends "false"' --dpkgopt="path-exclude=/usr/share/doc/*" --dpkgopt="path-include=/usr/share/doc/*/copyright" --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$base.part" "$work/sources.list" ||
        fail "mmdebstrap could not build Debian 12"
    mv "$base.part" "$base"
fi

# From here on as root of a user namespace of our own, where we are not root.
if [ "$(id -u)" != 0 ]; then
    rm -rf "$work"
    exec unshare --map-root-user --map-auto "$0" "${arguments[@]}"
fi

# ---- The appliance

echo "Installing the appliance ..."
mkdir "$root"
tar -C "$root" --numeric-owner --exclude='./dev/*' --xattrs --xattrs-include='*' -xf "$base"
cp -r "$work/programs/." "$root/"
in_root() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
in_root ldconfig
in_root systemd-sysusers 2>/dev/null
conf=$root/etc/tessera
install -d "$conf" "$root/var/lib/tessera/models"
find "$work/programs" -path "*/share/tessera/*.conf" ! -name "bypass-*" -exec cp {} "$conf/" \;
cp -rL "$model" "$root/var/lib/tessera/models/"
# set_conf FILE NAME VALUE: instead of the example's line
set_conf() {
    sed -i "0,/^#\{0,1\}$2 *=.*/s||$2 = $3|" "$conf/$1"
}
set_conf engine.conf model "/var/lib/tessera/models/${model##*/}"
set_conf engine.conf cpus "$engine_cpus"
set_conf engine.conf spin yes
[ -z "$etc" ] || cp -L "$etc"/* "$conf/"
in_root find /etc/tessera -type f -exec chown root:tessera {} + -exec chmod 640 {} +

words=$("$here/isolate.sh" --root "$root" "$engine_cpus" "$door_cpus" "$other_cpus")
cp -r "$here/root/." "$root/"
enabled=(systemd-networkd tessera-engine tessera-dataplane)
device=$(sed -n 's/^device *= *//p' "$conf/bypass.conf" 2>/dev/null || true)
if [ -n "$device" ]; then
    enabled+=(tessera-bypass)
    case $device in
    net_af_*) drop_in=af_xdp ;;
    net_*) drop_in= ;;
    *) drop_in=vfio ;;
    esac
    [ -z "$drop_in" ] || install -D -m 644 "$top/deploy/systemd/bypass-$drop_in.conf" "$root/etc/systemd/system/tessera-bypass.service.d/$drop_in.conf"
fi
in_root systemctl --quiet enable "${enabled[@]}"
in_root systemctl --quiet mask serial-getty@ttyS0 # nobody has a password
if [ $tests = yes ]; then
    sources=$root/usr/src/tessera
    mkdir -p "$sources/build/release"
    git -C "$top" ls-files -z | tar -C "$top" --null -T - -c | tar -C "$sources" --no-same-owner -x
    tar -C "$build" --exclude='*.o' --exclude='*.a' --exclude=./appliance -c . | tar -C "$sources/build/release" --no-same-owner -x
    ln -s /var/lib/tessera/models "$sources/models"
fi

# ---- What is booted

cp "$root"/boot/vmlinuz-* "$folder/vmlinuz"
cp "$root"/boot/initrd.img-* "$folder/initrd.img"
echo "root=LABEL=tessera rw quiet intel_iommu=on iommu=pt hugepagesz=2M hugepages=$pages $words" >"$folder/cmdline"
rm -f "$folder/root.ext4"
mke2fs -q -t ext4 -L tessera -d "$root" "$folder/root.ext4" "$size" || fail "mke2fs: give it more room by --size"
echo "Built in $SECONDS s: $folder, $(du -h "$folder/root.ext4" | cut -f 1) of $size used."
