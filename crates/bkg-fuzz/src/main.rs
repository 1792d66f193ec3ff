//! The program that libFuzzer drives; `BKG_FUZZ_TARGET` says which target. `scripts/fuzz` starts it.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<bkg_fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("BKG_FUZZ_TARGET").unwrap_or_default();
    bkg_fuzz::target(&name).unwrap_or_else(|| {
        let names = bkg_fuzz::TARGETS.map(|target| target.name).join(", ");
        eprintln!("there is no target `{name}`: set BKG_FUZZ_TARGET to one of {names}");
        std::process::exit(2)
    })
});

fuzz_target!(|data: &[u8]| (TARGET.run)(data));
