//! The `bkg` binary: the daemon and the command line in one file.
//!
//! Everything is in the library; only what belongs to a whole process is here.

use std::process::ExitCode;

/// Message-sized pieces are allocated and freed all the time, often on different threads; the system's
/// allocator is slower at it and keeps more of what was freed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    bkg::cli::main()
}
