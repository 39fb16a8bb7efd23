#!/usr/bin/env bash
# Keeps CPUs free of everything but the engine and the door past the kernel: writes drop-ins for systemd, and prints the words
# for the kernel's command line that keep away its own work too.
#
#     deploy/appliance/isolate.sh [--root DIR] ENGINE-CPUS DOOR-CPUS OTHERS
#
# LISTS like 2-7,12; OTHERS: the CPUs for all the rest, of which there must be one at least. DIR: a system that does not
# run, instead of this one. On this one: systemctl daemon-reload, the words into the boot loader's configuration, and
# a reboot. `cpus = ENGINE-CPUS` in engine.conf and `cpus = DOOR-CPUS` in bypass.conf name them to the programs.
set -euo pipefail
root=
if [ "${1:-}" = --root ]; then
    root=$2
    shift 2
fi
if [ $# != 3 ]; then
    sed -n '2,/^set -euo/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
fi
engine=$1 door=$2 others=$3
for list in "$engine" "$door" "$others"; do
    [[ $list =~ ^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$ ]] || {
        echo "isolate: '$list' is not a list of CPUs, such as 2-7,12" >&2
        exit 2
    }
done
numbers() {
    local part
    for part in ${1//,/ }; do seq "${part%-*}" "${part#*-}"; done
}
twice=$({ numbers "$engine" && numbers "$door" && numbers "$others"; } | sort -n | uniq -d | paste -sd,)
if [ -n "$twice" ]; then
    echo "isolate: CPU $twice is given twice: the engine's, the door's and the others' CPUs are apart" >&2
    exit 2
fi

# drop_in UNIT SECTION LINES...
drop_in() {
    local folder=$root/etc/systemd/system/$1.d section=$2
    shift 2
    mkdir -p "$folder"
    printf '%s\n' "[$section]" "$@" >"$folder/50-isolate.conf"
}
drop_in init.scope Scope "AllowedCPUs=$others"
for slice in system user machine; do
    drop_in $slice.slice Slice "AllowedCPUs=$others"
done
# Threads that do not poll run with the others. systemd itself is kept off isolated CPUs and its children with it, hence
# the affinity.
drop_in tessera-engine.service Service Slice=tessera.slice "AllowedCPUs=$others,$engine" "CPUAffinity=$others,$engine"
drop_in tessera-bypass.service Service Slice=tessera.slice "AllowedCPUs=$others,$door" "CPUAffinity=$others,$door"
echo "isolcpus=managed_irq,domain,$engine,$door nohz_full=$engine,$door rcu_nocbs=$engine,$door irqaffinity=$others"
