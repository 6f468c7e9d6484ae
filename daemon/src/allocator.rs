//! What glibc keeps of memory that was freed.

/// Gives freed memory back to the system. By itself glibc keeps the pieces of networks that are no longer loaded: it makes a heap for
/// each thread, and puts pieces of up to 32 MB into heaps once such a piece was freed. A daemon that read its configuration 12
/// times had 230 MB so, instead of 83 MB. To be called at the very beginning, and to be set in code because the unit is not the only
/// way to start the daemon.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    for (what, value) in [(libc::M_ARENA_MAX, 2), (libc::M_MMAP_THRESHOLD, 1 << 16), (libc::M_TRIM_THRESHOLD, 1 << 16)]
    {
        // SAFETY: sets a number of glibc's allocator, as mallopt(3) says; it touches no memory of ours.
        #[allow(unsafe_code)]
        unsafe {
            libc::mallopt(what, value);
        }
    }
}
