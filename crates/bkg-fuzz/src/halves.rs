//! Schedules for both halves of a session, made of the fuzzer's bytes, under the same books that the
//! protocol's own tests keep.
//!
//! Three bytes are one step, whatever it is: the fuzzer adds, drops, exchanges and repeats steps, and
//! keeps those schedules that reach something new.

use bkg_protocol::host::Contract;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::model::{HostUnderTest, Joined, PluginUnderTest, joint_step, step};

const STEP_BYTES: usize = 3;
/// Longer schedules reach nothing that shorter ones do not, and take long.
const MOST_STEPS: usize = 400;

/// The steps that `strategy` makes of these bytes.
fn steps<S: Strategy>(data: &[u8], strategy: S) -> impl Iterator<Item = S::Value> {
    data.chunks_exact(STEP_BYTES).take(MOST_STEPS).map(move |bytes| {
        let mut seed = [0; 32];
        seed[..STEP_BYTES].copy_from_slice(bytes);
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let config = Config { failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, rng);
        strategy.new_tree(&mut runner).expect("no step is refused").current()
    })
}

/// A host against a plugin that says and does anything; the first byte chooses the contract.
pub(crate) fn host(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let contract = if first % 2 == 0 { Contract::Extended } else { Contract::Base };
    let mut host = HostUnderTest::new(contract);
    steps(rest, step()).for_each(|step| host.step(&step));
    host.finish();
}

/// A plugin against a host that says and does anything.
pub(crate) fn plugin(data: &[u8]) {
    let mut plugin = PluginUnderTest::new();
    steps(data, step()).for_each(|step| plugin.step(&step));
    plugin.finish();
}

/// Two honest halves, joined by two queues.
pub(crate) fn both(data: &[u8]) {
    let mut joined = Joined::new();
    steps(data, joint_step()).for_each(|step| joined.step(&step));
    joined.finish();
}
