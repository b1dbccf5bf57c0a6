/* Cuts the power of an ext4 or xfs: nothing of what is not on the disk yet gets there any more. Compiled by cli_crash.rs.
 *
 *   power_cut DIRECTORY
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>

/* EXT4_IOC_SHUTDOWN of the kernel's fs/ext4, and its flag that the journal is not flushed either */
#define SHUTDOWN _IOR('X', 125, uint32_t)
#define NO_LOG_FLUSH 2

int main(int argc, char **argv)
{
    uint32_t flags = NO_LOG_FLUSH;
    int directory = argc == 2 ? open(argv[1], O_RDONLY | O_DIRECTORY) : -1;
    if (directory < 0 || ioctl(directory, SHUTDOWN, &flags) < 0) {
        perror("power_cut");
        return 1;
    }
    return 0;
}
