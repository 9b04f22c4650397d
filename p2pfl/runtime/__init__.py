"""The I/O shell: home directory, configuration, blobs, control socket, and the driver that
performs the core's effects. Nothing here decides what a study may do; that is the core's."""
