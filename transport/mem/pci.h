/* pci.h - how far two PCI devices are from one another: whether DMA between them is a good idea. */
#ifndef FAR_TRANSPORT_MEM_PCI_H
#define FAR_TRANSPORT_MEM_PCI_H

#define FAR_PCI_SYSFS "/sys/bus/pci/devices"

/* What lies between them, as nvidia-smi topo -m has it; further is larger. */
enum far_pci_distance {
	FAR_PCI_PIX, /* one switch at the most */
	FAR_PCI_PXB, /* several switches, no host bridge */
	FAR_PCI_PHB, /* a host bridge: the root complex of a processor */
	FAR_PCI_SYS, /* the link between processors, or more than one root complex */
	FAR_PCI_UNKNOWN,
};

/**
 * far_pci_distance - from the places of two devices in sysfs.
 *
 * @sysfs: FAR_PCI_SYSFS; a test has another.
 * @a, @b: "0000:00:06.0".
 *
 * Two devices behind one root port are PIX, or PXB where more than one switch is between. A virtual
 * machine shows the places that it invents. Thread: any. Reads files.
 */
enum far_pci_distance far_pci_distance(const char *sysfs, const char *a, const char *b);

/* "PIX" and so on; "unknown". */
const char *far_pci_distance_name(enum far_pci_distance distance);

#endif
