//! What no schedule of frames may do, however hostile: deliver an answer to another caller, leak a
//! waiter, break credit, or panic.
//!
//! One property per half against a peer that says anything at all, and one of both halves joined by
//! two queues, where nothing is hostile and therefore nothing may be cut off, lost or doubled.
//! `PROPTEST_CASES` raises the number of schedules.

mod model;

use std::time::Duration;

use bkg_protocol::exchange::Dropped;
use bkg_protocol::host::{Contract, HostEvent, HostSession};
use bkg_protocol::message::Register;
use bkg_protocol::plugin::PluginSession;
use model::{
    Does, HOST_SEED, HostUnderTest, Joined, Joint, PLUGIN_SEED, PluginUnderTest, REGISTER, Side,
    joint_step, limits, step,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

/// Few enough for every build; `PROPTEST_CASES=10000` is for a quiet evening.
fn cases() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(192);
    // What once failed becomes a test with a name, at the end of this file.
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_schedule_of_an_extended_plugin_breaks_the_host(steps in vec(step(), 0..120)) {
        let mut host = HostUnderTest::new(Contract::Extended);
        for step in &steps {
            host.step(step);
        }
        host.finish();
    }

    #[test]
    fn no_schedule_of_a_base_plugin_breaks_the_host(steps in vec(step(), 0..120)) {
        let mut host = HostUnderTest::new(Contract::Base);
        for step in &steps {
            host.step(step);
        }
        host.finish();
    }

    #[test]
    fn no_schedule_of_a_host_breaks_the_plugin(steps in vec(step(), 0..120)) {
        let mut plugin = PluginUnderTest::new();
        for step in &steps {
            plugin.step(step);
        }
        plugin.finish();
    }

    #[test]
    fn two_honest_halves_bring_every_request_to_its_one_end(steps in vec(joint_step(), 0..200)) {
        let mut joined = Joined::new();
        for step in &steps {
            joined.step(step);
        }
        joined.finish();
    }

    #[test]
    fn no_text_at_all_makes_a_session_panic(texts in vec(".{0,60}", 0..20), registers in any::<bool>()) {
        let mut host = HostSession::<()>::new(HOST_SEED, limits(), None);
        if registers {
            host.receive(REGISTER, Duration::ZERO);
        }
        let mut plugin = PluginSession::<()>::new(PLUGIN_SEED, Register::new("echo".parse().unwrap()));
        for text in &texts {
            host.receive(text, Duration::ZERO);
            plugin.receive(text, Duration::ZERO);
        }
    }
}

#[test]
fn frames_that_cannot_be_read_end_a_session_only_when_they_come_in_numbers() {
    let mut host = HostUnderTest::new(Contract::Extended).session;
    let at = |second: u64| Duration::from_secs(second);
    for _ in 0..19 {
        assert_eq!(host.receive("nonsense", at(0)), HostEvent::Dropped(Dropped::Unreadable));
    }
    // Ten seconds later the first ones no longer count.
    for _ in 0..19 {
        assert_eq!(host.receive("nonsense", at(11)), HostEvent::Dropped(Dropped::Unreadable));
    }
    assert_eq!(host.receive("nonsense", at(12)), HostEvent::Closing);
    assert_eq!(host.closing().map(|close| close.code), Some(1007));
    assert_eq!(host.drops().unreadable, 39);
}

#[test]
fn a_credit_that_waits_behind_its_written_request_survives_a_drain() {
    let mut joined = Joined::new();
    joined.ask(Side::Host, 1, false, Some(0));
    // The registration and the request leave, the credit behind the request does not.
    joined.write(Side::Host, 2);
    joined.step(&Joint::Drain);
    joined.finish();
}

#[test]
fn a_plugin_that_guesses_the_id_of_a_request_that_waits_gains_nothing() {
    let mut host = HostUnderTest::new(Contract::Extended);
    host.write(usize::MAX);
    host.act(&Does::Request { stream: true, credit: None });
    let id = host.books.asked[0].id.clone().unwrap();
    for guess in [
        json!({ "type": "chunk", "requestId": id, "seq": 7 }),
        json!({ "type": "response", "requestId": id, "success": true, "data": 1 }),
        json!({ "type": "response", "requestId": id, "success": "yes" }),
    ] {
        host.receive(&guess.to_string());
    }
    assert_eq!((host.session.in_flight(), host.books.open()), (1, 1));
    host.finish();
}
