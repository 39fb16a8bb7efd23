/* What a port lacks, on a machine that is not there: a sound one, with one thing changed. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/capability.h>

#include <tsr/tools/doctor.h>

#include "fixture.h"

#define PCI   "/sys/bus/pci/devices/"
#define NET   "/sys/class/net/"
#define PAGES "/sys/kernel/mm/hugepages/hugepages-2048kB/"

static struct tsr_doctor doctor;

static void make_link(const char *path, const char *target)
{
    char whole[512];
    fixture_path(path, whole);
    remove(whole);
    assert_int_equal(symlink(target, whole), 0);
}

/* Two cards of one group, both vfio's, and two interfaces: eth0 is a card's, v0 and v1 a pair. */
static void make_sound(const char *device)
{
    static const struct {
        const char *path, *text;
    } files[] = {
        {PCI "0000:03:00.0/class", "0x020000\n"},
        {PCI "0000:03:00.1/class", "0x020000\n"},
        {PCI "0000:00:01.0/class", "0x060400\n"},
        {PCI "0000:00:02.0/class", "0x030000\n"},
        {"/sys/kernel/iommu_groups/7/devices/0000:03:00.0", ""},
        {"/sys/kernel/iommu_groups/7/devices/0000:03:00.1", ""},
        {"/sys/kernel/iommu_groups/7/devices/0000:00:01.0", ""},
        {"/dev/vfio/7", ""},
        {"/dev/net/tun", ""},
        {NET "eth0/flags", "0x1003\n"},
        {NET "eth0/carrier", "1\n"},
        {NET "eth0/mtu", "1500\n"},
        {NET "eth0/ifindex", "2\n"},
        {NET "eth0/iflink", "2\n"},
        {NET "eth0/queues/rx-0/x", ""},
        {NET "eth0/queues/rx-1/x", ""},
        {NET "v0/flags", "0x1003\n"},
        {NET "v0/mtu", "1500\n"},
        {NET "v0/ifindex", "3\n"},
        {NET "v0/iflink", "4\n"},
        {NET "v0/queues/rx-0/x", ""},
        {NET "v0/queues/rx-1/x", ""},
        {PAGES "free_hugepages", "80\n"},
        {PAGES "nr_hugepages", "100\n"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        fixture_write(files[i].path, files[i].text);
    }
    make_link(PCI "0000:03:00.0/driver", "../../bus/pci/drivers/vfio-pci");
    make_link(PCI "0000:03:00.1/driver", "../../bus/pci/drivers/vfio-pci");
    make_link(PCI "0000:00:01.0/driver", "../../bus/pci/drivers/pcieport");
    make_link(PCI "0000:03:00.0/iommu_group", "../../kernel/iommu_groups/7");
    doctor.root = fixture_root;
    doctor.live = (struct tsr_doctor_live){.memlock_bytes = UINT64_MAX};
    doctor.port = (struct tsr_doctor_port){
        .device = device,
        .queues = 2,
        .capabilities = UINT64_MAX,
        .bounding = UINT64_MAX,
        .link = {.name = "eth0", .combined = true},
        .peer = {.name = "v1"},
        .n_addresses = 2,
        .addresses = {"192.0.2.2/24", "2001:db8::2/64"},
    };
}

static const struct tsr_finding *find(const char *name)
{
    for (uint32_t i = 0; i < doctor.n; i++) {
        if (strcmp(doctor.findings[i].name, name) == 0) {
            return &doctor.findings[i];
        }
    }
    return NULL;
}

/* One finding to be mended, with this text and command; with name NULL none. */
static void expect(const char *name, const char *text, const char *command)
{
    tsr_doctor_look(&doctor);
    const struct tsr_finding *found = NULL;
    for (uint32_t i = 0; i < doctor.n; i++) {
        const struct tsr_finding *f = &doctor.findings[i];
        if (f->level == TSR_FINDING_MEND) {
            if (found || !name) {
                fail_msg("also %s: %s", f->name, f->text);
            }
            found = f;
        }
    }
    assert_int_equal(doctor.n_mend, name ? 1 : 0);
    if (name && (strcmp(found->name, name) != 0 || !strstr(found->text, text) ||
                 strcmp(found->command, command) != 0)) {
        fail_msg("not %s '%s' '%s', but %s '%s' '%s'", name, text, command, found->name,
                 found->text, found->command);
    }
}

static void test_doctor_port_finds_nothing_where_all_is_well(void **state)
{
    (void)state;
    static const char *const devices[] = {
        "0000:03:00.0",
        "03:00.0",
        "0000:03:00.0,some=argument",
        "net_af_xdp0,iface=eth0",
        "net_af_xdp0,iface=v0",
        "net_af_packet0,iface=eth0",
        "net_tap0",
        "net_memif0,socket=/tmp/memif.sock",
        "net_memif0",
        "net_virtio_user0,path=/tmp/vhost.sock",
        "net_null0",
    };
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
        make_sound(devices[i]);
        fixture_write("/tmp/x", "");
        doctor.port.n_listen = 2;
        doctor.port.listen[0] = i < 3 ? "192.0.2.9/24:443" : "192.0.2.2/24:443";
        doctor.port.listen[1] = "[2001:db8::2/64]:443";
        if (strstr(devices[i], "packet")) {
            doctor.port.n_addresses = 0;
        }
        expect(NULL, NULL, NULL);
        assert_non_null(find("device"));
        assert_null(find("engine")); /* of the port alone */
    }
}

static void test_doctor_port_finds_what_a_card_lacks(void **state)
{
    (void)state;
    make_sound("0000:04:00.0");
    expect("device", "no PCI device 0000:04:00.0; network cards: 0000:03:00.",
           "grep -l ^0x02 /sys/bus/pci/devices/*/class");

    make_sound("0000:03:00.0");
    make_link(PCI "0000:03:00.0/driver", "../../bus/pci/drivers/ixgbe");
    expect("driver",
           "ixgbe, not vfio-pci: the kernel loses the interface eth0 and what comes to "
           "192.0.2.2/24, 2001:db8::2/64",
           "sudo modprobe vfio-pci && echo vfio-pci | sudo tee " PCI "0000:03:00.0/driver_override "
           "&& echo 0000:03:00.0 | sudo tee " PCI "0000:03:00.0/driver/unbind && echo "
           "0000:03:00.0 | sudo tee /sys/bus/pci/drivers_probe");
    make_link(PCI "0000:03:00.0/driver", "../../bus/pci/drivers/mlx5_core");
    expect(NULL, NULL, NULL);

    make_sound("0000:03:00.0");
    doctor.live.is_root = true;
    doctor.port.link.name[0] = '\0';
    doctor.port.n_addresses = 0;
    char path[512];
    fixture_path(PCI "0000:03:00.0/driver", path);
    remove(path);
    expect("driver", "none, not vfio-pci",
           "modprobe vfio-pci && echo vfio-pci | tee " PCI "0000:03:00.0/driver_override && echo "
           "0000:03:00.0 | tee /sys/bus/pci/drivers_probe");

    make_sound("0000:03:00.0");
    fixture_path(PCI "0000:03:00.0/iommu_group", path);
    remove(path);
    expect("iommu", "in no IOMMU group",
           "sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&intel_iommu=on iommu=pt /' /etc/default/grub && "
           "sudo update-grub && sudo reboot");

    make_sound("0000:03:00.0");
    make_link(PCI "0000:03:00.1/driver", "../../bus/pci/drivers/ixgbe");
    expect("iommu", "group 7 is given away whole",
           "for d in 0000:03:00.1; do echo vfio-pci | sudo tee " PCI "$d/driver_override; echo $d "
           "| sudo tee " PCI "$d/driver/unbind /sys/bus/pci/drivers_probe; done");

    make_sound("0000:00:02.0"); /* a graphics card */
    make_link(PCI "0000:00:02.0/driver", "../../bus/pci/drivers/vfio-pci");
    make_link(PCI "0000:00:02.0/iommu_group", "../../kernel/iommu_groups/7");
    expect(NULL, NULL, NULL);
    assert_int_equal(find("device")->level, TSR_FINDING_NOTE);
}

static void test_doctor_port_finds_what_an_interface_lacks(void **state)
{
    (void)state;
    static const struct {
        const char *device, *path, *content, *name, *text, *command;
    } cases[] = {
        {"net_af_xdp0,iface=eth0", NET "eth0/flags", "0x1002\n", "link", "eth0 is down",
         "sudo ip link set eth0 up"},
        {"net_af_xdp0,iface=eth0", NET "eth0/mtu", "9000\n", "mtu", "at most 3400",
         "sudo ip link set eth0 mtu 3400"},
        {"net_af_packet0,iface=v0", NET "v0/mtu", "1000\n", "mtu", "QUIC needs 1280",
         "sudo ip link set v0 mtu 1280"},
        {"net_af_xdp0,iface=eth0", NET "eth0/queues/rx-2/x", "", "queues",
         "by 3 queues, and the door has 2: what comes by the others is lost",
         "sudo ethtool -L eth0 combined 2"},
        {"net_af_xdp0,iface=eth9", NET "eth0/mtu", "1500\n", "device", "no interface eth9",
         "ip -brief link"},
        {"net_af_packet0", NET "eth0/mtu", "1500\n", "device", "no interface is named",
         "ip -brief link"},
        {"net_tap0", PAGES "free_hugepages", "10\n", "huge-pages", "20 MiB are free",
         "echo 162 | sudo tee /proc/sys/vm/nr_hugepages"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[512];
        make_sound(cases[i].device);
        doctor.port.n_addresses = strstr(cases[i].device, "packet") ? 0 : 2;
        fixture_write(cases[i].path, cases[i].content);
        expect(cases[i].name, cases[i].text, cases[i].command);
        fixture_path(cases[i].path, path);
        remove(path);
        *strrchr(path, '/') = '\0';
        rmdir(path); /* a queue */
    }
    make_sound("net_af_xdp0,iface=v0");
    doctor.port.queues = 3;
    doctor.port.no_huge = true; /* they would not do for three */
    doctor.port.link.combined = false;
    expect("queues", "v0 receives by 2 queues, and the door has 3", "sudo ethtool -L v0 rx 3 tx 3");

    make_sound("net_af_xdp0,iface=v0");
    fixture_write(NET "v1/queues/tx-0/x", "");
    fixture_write(NET "v1/queues/tx-1/x", "");
    expect(NULL, NULL, NULL);
    fixture_write(NET "v1/queues/tx-2/x", "");
    expect("queues", "v1, the other end of v0, sends by 3 queues", "sudo ethtool -L v1 rx 2 tx 2");

    make_sound("net_tap0");
    fixture_write(PAGES "free_hugepages", "0\n");
    doctor.port.no_huge = true;
    expect(NULL, NULL, NULL);
}

static void test_doctor_port_finds_offloads(void **state)
{
    (void)state;
    const char *off = "sudo ethtool -K v1 tx off gso off tso off";
    make_sound("net_af_xdp0,iface=v0");
    doctor.port.peer.tx_checksums = true;
    expect("offloads", "v1, the other end of v0", off);
    make_sound("net_af_xdp0,iface=v0");
    doctor.port.peer.gso = true;
    expect("offloads", "or joined", off);
    make_sound("net_af_packet0,iface=v0");
    doctor.port.n_addresses = 0;
    doctor.port.peer.tso = true;
    expect("offloads", "or joined", off);
    make_sound("net_af_xdp0,iface=v0");
    doctor.port.peer.name[0] = '\0';
    expect(NULL, NULL, NULL);
    assert_int_equal(find("offloads")->level, TSR_FINDING_NOTE);
    assert_non_null(strstr(find("offloads")->text, "interface 4 of another namespace"));
    make_sound("net_af_xdp0,iface=eth0");
    doctor.port.link.lro = true;
    expect("offloads", "LRO", "sudo ethtool -K eth0 lro off");
}

static void test_doctor_port_finds_addresses_in_the_wrong_place(void **state)
{
    (void)state;
    make_sound("net_af_xdp0,iface=eth0");
    doctor.port.n_listen = 1;
    doctor.port.listen[0] = "192.0.2.20/25:443"; /* begins as one that is there */
    expect("address", "has no 192.0.2.20 on eth0", "sudo ip address add 192.0.2.20/25 dev eth0");
    doctor.port.listen[0] = "[2001:DB8:0::3]:443";
    expect("address", "has no 2001:db8::3 on eth0", "sudo ip address add 2001:db8::3/64 dev eth0");
    doctor.port.listen[0] = "[2001:0db8::2/64]:443";
    expect(NULL, NULL, NULL);
    doctor.port.listen[0] = "eth0:443";
    expect(NULL, NULL, NULL);
    assert_int_equal(find("address")->level, TSR_FINDING_NOTE);

    make_sound("net_af_xdp0,iface=eth0");
    doctor.port.n_addresses = 0;
    expect("address", "has none on eth0", "sudo ip address add ADDRESS/PREFIX dev eth0");

    make_sound("net_af_packet0,iface=eth0");
    expect(NULL, NULL, NULL); /* it may listen elsewhere */
    assert_int_equal(find("address")->level, TSR_FINDING_NOTE);
    doctor.port.n_listen = 1;
    doctor.port.listen[0] = "192.0.2.2/24:443";
    expect("address", "the kernel has 192.0.2.2/24 on eth0 too",
           "sudo ip address del 192.0.2.2/24 dev eth0");
}

static void test_doctor_port_finds_rights(void **state)
{
    (void)state;
    const uint64_t xdp =
        1ull << CAP_NET_ADMIN | 1ull << CAP_NET_RAW | 1ull << CAP_BPF | 1ull << CAP_PERFMON;
    make_sound("net_af_xdp0,iface=eth0");
    doctor.port.capabilities = doctor.port.bounding = xdp;
    expect(NULL, NULL, NULL);
    assert_int_equal(find("capabilities")->level, TSR_FINDING_FINE);
    doctor.port.capabilities = 1ull << CAP_NET_RAW;
    expect(NULL, NULL, NULL);
    assert_non_null(strstr(find("capabilities")->text,
                           "needs CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON to start: run it as root"));
    doctor.port.bounding = 1ull << CAP_NET_RAW | 1ull << CAP_NET_ADMIN;
    doctor.port.capabilities = doctor.port.bounding;
    expect("capabilities", "CAP_BPF, CAP_PERFMON: nobody has them here",
           "docker run --cap-add=BPF --cap-add=PERFMON IMAGE");

    make_sound("net_af_packet0,iface=eth0");
    doctor.port.n_addresses = 0;
    doctor.port.capabilities = 0;
    doctor.live.memlock_bytes = 4 << 20;
    expect("memlock", "4096 KiB may be locked, and the device takes 8 MiB",
           "echo '* - memlock unlimited' | sudo tee /etc/security/limits.d/tessera-memlock.conf");
    doctor.port.capabilities = 1ull << CAP_IPC_LOCK;
    expect(NULL, NULL, NULL);

    make_sound("net_af_xdp0,iface=eth0");
    doctor.port.af_xdp = EAFNOSUPPORT;
    expect("af_xdp", "CONFIG_XDP_SOCKETS", "sudo apt-get install linux-image-amd64 && sudo reboot");
}

static void test_doctor_port_finds_files(void **state)
{
    (void)state;
    char path[512];
    make_sound("net_tap0,iface=tap0");
    fixture_path("/dev/net/tun", path);
    remove(path);
    expect("device", "there is no /dev/net/tun", "sudo modprobe -a tun vhost_net");
    make_sound("net_memif0,socket=/nowhere/memif.sock,role=server");
    expect("device", "the folder of /nowhere/memif.sock",
           "sudo install -d -o \"$(id -un)\" /nowhere");
    make_sound("net_vhost0,iface=/nowhere/vhost.sock");
    expect("device", "the folder of /nowhere/vhost.sock",
           "sudo install -d -o \"$(id -un)\" /nowhere");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_doctor_port_finds_nothing_where_all_is_well,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_doctor_port_finds_what_a_card_lacks, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_doctor_port_finds_what_an_interface_lacks,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_doctor_port_finds_offloads, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_doctor_port_finds_addresses_in_the_wrong_place,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_doctor_port_finds_rights, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_doctor_port_finds_files, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
