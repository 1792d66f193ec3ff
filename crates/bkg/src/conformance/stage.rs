//! Where a scene plays: one launch at a time with a session that answers, made anew when the last was
//! broken by what was tried on it.
//!
//! So a rule is tried on a plugin that works, whatever became of it under the rule before. Scenes play at
//! once, each on a stage of its own.

use std::time::Duration;

use serde_json::{Value, json};

use super::kit::{FIRST_DIAL_WITHIN, Kit, KitError};
use super::launch::{Launch, NoLaunch};
use super::notebook::clipped;
use super::questions::Question;
use super::rule::Rule;
use super::session::{Session, Waited};

/// How long a plugin may take to answer what it should answer at once; it may be one of many on a slow
/// machine.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long the kit listens where the claim is that nothing comes. Too short for a plugin that is slow to
/// break the rule, which it then breaks unseen; never a reason to blame one.
pub(super) const SILENCE: Duration = Duration::from_millis(250);
/// How often a scene may need a new launch: what breaks under everything is not tried for ever.
const MOST_LAUNCHES: u32 = 12;

/// Why a rule could not be tried to its end.
#[derive(Debug)]
pub(super) enum Halt {
    /// The kit failed.
    Kit(KitError),
    /// There is nothing to try it on, for this reason.
    Stuck(String),
    /// It means nothing for this plugin, for this reason.
    Beside(&'static str),
}

impl From<KitError> for Halt {
    fn from(error: KitError) -> Self {
        Self::Kit(error)
    }
}

impl From<NoLaunch> for Halt {
    fn from(why: NoLaunch) -> Self {
        match why {
            NoLaunch::Kit(error) => Self::Kit(error),
            NoLaunch::Plugin(reason) => Self::Stuck(reason),
        }
    }
}

/// What came of a question.
#[derive(Debug)]
pub(super) enum Answer {
    /// Its response.
    Came(Value),
    /// None, in one sentence.
    Missing(String),
}

/// Where a scene plays.
pub(super) struct Stage<'k> {
    pub(super) kit: &'k Kit<'k>,
    pub(super) launch: Option<Launch<'k>>,
    pub(super) session: Option<Session<'k>>,
    launches_left: u32,
}

impl<'k> Stage<'k> {
    pub(super) fn new(kit: &'k Kit<'k>) -> Self {
        Self { kit, launch: None, session: None, launches_left: MOST_LAUNCHES }
    }

    /// A stage on which a plugin plays already.
    pub(super) fn with(kit: &'k Kit<'k>, launch: Launch<'k>, session: Session<'k>) -> Self {
        Self { launch: Some(launch), session: Some(session), ..Self::new(kit) }
    }

    /// Tries some rules, if any of them was asked for; where that proves impossible they count as not
    /// tried, unless something was found out before.
    pub(super) async fn tried(
        &mut self,
        rules: &[Rule],
        act: impl AsyncFnOnce(&mut Self) -> Result<(), Halt>,
    ) -> Result<(), KitError> {
        if !self.kit.wants(rules) {
            return Ok(());
        }
        match act(self).await {
            Ok(()) => Ok(()),
            Err(Halt::Kit(error)) => Err(error),
            Err(Halt::Stuck(reason)) => {
                for rule in rules {
                    self.kit.notebook.not_tried(*rule, reason.clone());
                }
                Ok(())
            }
            Err(Halt::Beside(reason)) => {
                for rule in rules {
                    self.kit.notebook.not_applicable(*rule, reason);
                }
                Ok(())
            }
        }
    }

    /// A session in which the plugin is registered; the one that is there if it is still open.
    pub(super) async fn ready(&mut self) -> Result<&mut Session<'k>, Halt> {
        let is_open = self.session.as_ref().is_some_and(|session| session.gone.is_none());
        if !is_open {
            let by_hand = self.kit.by_hand.is_some();
            if self.launches_left == 0 {
                let reason = format!("the plugin lost its session {MOST_LAUNCHES} times");
                return Err(Halt::Stuck(reason));
            }
            self.launches_left -= 1;
            self.session = None;
            if !by_hand || self.launch.is_none() {
                self.end().await?;
                self.launch = Some(Launch::start(self.kit).await?);
            }
            let is_known = self.kit.contract.get().is_some();
            let within = if is_known { self.kit.dial_within() } else { FIRST_DIAL_WITHIN };
            let launch = self.launch.as_mut().expect("there is a launch now");
            let mut session = match launch.registering(within).await {
                Ok(session) => session,
                Err(missing) if by_hand && self.kit.contract.get().is_some() => {
                    drop(missing);
                    let reason = "the plugin's session ended, and nobody started it again";
                    return Err(Halt::Stuck(reason.to_owned()));
                }
                Err(missing) => return Err(Halt::Stuck(missing.note(&self.kit.notebook))),
            };
            launch.welcome(&mut session).await;
            self.session = Some(session);
        }
        Ok(self.session.as_mut().expect("there is a session now"))
    }

    /// Ends the launch that is there.
    pub(super) async fn end(&mut self) -> Result<(), KitError> {
        self.session = None;
        match self.launch.take() {
            Some(mut launch) => launch.end().await,
            None => Ok(()),
        }
    }

    /// Asks in the present session, and waits for the response.
    pub(super) async fn ask(&mut self, question: &Question, more: Value) -> Result<Answer, Halt> {
        let session = self.ready().await?;
        let id = session.ask_with(question, more).await;
        Ok(session.answer_to(&id).await)
    }

    /// What any plugin can be asked: what its author says, else something that it does not have.
    pub(super) fn harmless_question(&self) -> Question {
        self.kit.target.questions.answer.clone().unwrap_or_else(unknown_capability)
    }

    /// Whether the plugin still answers in this session; if not, what came.
    pub(super) async fn still_answers(&mut self) -> Result<(), String> {
        let question = self.harmless_question();
        let Some(session) = &mut self.session else { return Err("there is no session".to_owned()) };
        if session.gone.is_some() {
            return Err(session.fate());
        }
        let id = session.ask(&question).await;
        match session.answer_to(&id).await {
            Answer::Came(_) => Ok(()),
            Answer::Missing(came) => Err(format!("the next question had no answer: {came}")),
        }
    }

    /// Notes a rule as held if the plugin still answers, else as broken.
    pub(super) async fn survives(&mut self, rule: Rule, expected: &str) {
        match self.still_answers().await {
            Ok(()) => self.kit.notebook.passed(rule),
            Err(came) => self.kit.notebook.broken(rule, expected, came),
        }
    }
}

impl Session<'_> {
    /// Waits for the response to a request, as long as an answer may take.
    pub(super) async fn answer_to(&mut self, id: &str) -> Answer {
        match self.answered(id, ANSWER_WITHIN).await {
            Waited::Reached => {
                let response = self.heard.response(id).cloned().unwrap_or_default();
                Answer::Came(response)
            }
            Waited::Late => Answer::Missing(format!("no `response` within {} s", ANSWER_WITHIN.as_secs())),
            Waited::Gone => Answer::Missing(self.fate()),
        }
    }
}

/// A question for something that no plugin has.
pub(super) fn unknown_capability() -> Question {
    let capability = "conformance.nobody-has-this".parse().expect("it has the form of a capability");
    Question { capability, payload: json!({}) }
}

/// A response, for people.
pub(super) fn shown(response: &Value) -> String {
    clipped(&response.to_string())
}
