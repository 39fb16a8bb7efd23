#!/usr/bin/env bash
# Boots in QEMU what build.sh has built: three CPUs, an IOMMU, and two cards, of which the first (0000:00:03.0) stays the
# kernel's and the second (0000:00:04.0) is there to be named in bypass.conf.
#
#     deploy/appliance/run.sh [options] FOLDER
#
#   --http PORT        of this machine, leads to port 8000 of the first card [8000]
#   --tap NAME         a tap of this machine that is the other end of the second card's wire [none: it leads nowhere]
#   --memory SIZE      [3G]
#   --cpus N           [3]
#   --accel NAME       tcg, which works everywhere and is slow, or kvm [tcg]
#   --keep             what the guest writes stays in root.ext4
#   --control SOCKET   a Unix socket that leads to a shell of root's in the guest, without a password
#   --append WORDS     for the kernel's command line
#
# The guest's console is on standard output; SIGTERM switches it off.
set -euo pipefail
http=8000 tap= memory=3G cpus=3 accel=tcg keep=no control= append= folder=
fail() {
    echo "appliance: $*" >&2
    exit 1
}
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help)
        sed -n '2,/^set -euo/{/^set/d;s/^# \{0,1\}//;p}' "$0"
        exit 0
        ;;
    --keep) keep=yes ;;
    --http | --tap | --memory | --cpus | --accel | --control | --append)
        [ $# -gt 1 ] || fail "$1 takes a value; --help says which"
        printf -v "${1#--}" %s "$2"
        shift
        ;;
    -*) fail "'$1' was not expected; --help says how" ;;
    *) folder=$1 ;;
    esac
    shift
done
[ -f "$folder/root.ext4" ] || fail "'$folder' holds no appliance: deploy/appliance/build.sh $folder makes it"
command -v qemu-system-x86_64 >/dev/null || fail "QEMU is missing: apt-get install qemu-system-x86"

# A card that vfio can have: modern virtio, behind the IOMMU.
card=virtio-net-pci,disable-legacy=on,iommu_platform=on,ats=on
qemu=(qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -display none -serial stdio
    -machine q35,kernel-irqchip=split -accel "$accel" -cpu "$([ "$accel" = kvm ] && echo host || echo max)" -smp "$cpus" -m "$memory"
    -device intel-iommu,intremap=on,device-iotlb=on
    -drive "if=none,id=disk,format=raw,file=$folder/root.ext4,snapshot=$([ $keep = yes ] && echo off || echo on)"
    -device virtio-blk-pci,drive=disk,addr=02 -device virtio-rng-pci,addr=05
    -netdev "user,id=kernel,hostfwd=tcp:127.0.0.1:$http-:8000" -device "$card,netdev=kernel,addr=03,mac=52:54:00:00:00:03")
if [ -n "$tap" ]; then
    qemu+=(-netdev "tap,id=door,ifname=$tap,script=no,downscript=no" -device "$card,netdev=door,addr=04,mac=52:54:00:00:00:04")
else
    qemu+=(-netdev hubport,id=door,hubid=0 -device "$card,netdev=door,addr=04,mac=52:54:00:00:00:04")
fi
if [ -n "$control" ]; then
    qemu+=(-chardev "socket,id=control,path=$control,server=on,wait=off" -serial chardev:control)
    append+=" systemd.debug_shell=ttyS1"
fi
# A starved emulated processor may miss the ticks by which the kernel tries its timer, and which it would then panic about.
# An emulated TSC is the machine's own: every other clock takes an exit to QEMU, some microseconds and its one lock.
exec "${qemu[@]}" -kernel "$folder/vmlinuz" -initrd "$folder/initrd.img" -append "console=ttyS0 no_timer_check tsc=reliable $(cat "$folder/cmdline") $append"
