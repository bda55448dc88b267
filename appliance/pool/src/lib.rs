//! Disk and image files on a file system with reflink.
