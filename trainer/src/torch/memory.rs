//! How the C library hands out memory.

/// Keeps freed memory in the process.
///
/// The maps of a training step are blocks of up to 150 MB. By default the C library returns each to the system when it
/// is freed, and the next step pays for every page again: that was a third of the time of a step.
pub(crate) fn keep_freed_memory() {
    // SAFETY: mallopt only sets numbers of the allocator; it is called before libtorch has started its threads.
    #[allow(unsafe_code)]
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        libc::mallopt(libc::M_TOP_PAD, 1 << 28);
    }
}
