//! The body of `llm.chat`: what of it matters here, and what must be refused.
//!
//! Fields that are not named here (temperature, tools, …) may be anything: the stand-in has no use
//! for them. The invariant of a [`ChatRequest`]: it can be answered.

use std::borrow::Cow;
use std::fmt;

use bkg_sdk::{Request, WireError};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::Value;

use crate::CHAT_MODEL;
use crate::body::{Text, expect_model, expect_number, expect_text, given, invalid};
use crate::tokens::count;

/// The most choices of one answer.
pub(crate) const MOST_CHOICES: u32 = 16;
/// The most stop sequences, as with OpenAI.
const MOST_STOPS: usize = 4;

#[derive(Debug, Deserialize)]
pub(crate) struct ChatRequest<'a> {
    #[serde(borrow)]
    pub(crate) model: Option<Text<'a>>,
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
    n: Option<u32>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    #[serde(borrow)]
    stop: Option<Stop<'a>>,
    stream_options: Option<StreamOptions>,
}

#[derive(Debug, Deserialize)]
struct Message<'a> {
    role: Role,
    #[serde(borrow)]
    content: Option<Content<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    Developer,
    System,
    User,
    Assistant,
    Tool,
    Function,
}

const ROLES: [&str; 6] = ["developer", "system", "user", "assistant", "tool", "function"];

impl Role {
    /// An assistant that called tools has said nothing; everybody else says something.
    fn may_be_silent(self) -> bool {
        matches!(self, Self::Assistant | Self::Function)
    }
}

/// One text, or its parts; parts that are not text are passed over.
#[derive(Debug)]
enum Content<'a> {
    Whole(Cow<'a, str>),
    Parts(Vec<Cow<'a, str>>),
}

impl<'a> Content<'a> {
    fn texts(&self) -> &[Cow<'a, str>] {
        match self {
            Self::Whole(text) => std::slice::from_ref(text),
            Self::Parts(parts) => parts,
        }
    }
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<Text<'a>>,
}

#[derive(Debug)]
struct Stop<'a>(Vec<Cow<'a, str>>);

#[derive(Debug, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Content<'de>;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a string or a list of parts")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Content::Whole(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Content::Whole(Cow::Owned(text.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
                let mut texts = Vec::new();
                while let Some(part) = parts.next_element::<Part<'de>>()? {
                    match (&*part.kind, part.text) {
                        ("text", Some(Text(text))) => texts.push(text),
                        ("text", None) => return Err(serde::de::Error::missing_field("text")),
                        _ => {}
                    }
                }
                Ok(Content::Parts(texts))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Stop<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Stop<'de>;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a string or a list of strings")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Stop(vec![Cow::Borrowed(text)]))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Stop(vec![Cow::Owned(text.to_owned())]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut stops = Vec::new();
                while stops.len() <= MOST_STOPS
                    && let Some(Text(stop)) = items.next_element::<Text<'de>>()?
                {
                    stops.push(stop);
                }
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Stop(stops))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'a> ChatRequest<'a> {
    /// Reads and checks a request's payload.
    ///
    /// # Errors
    /// `invalid_request` with the parameter that is wrong.
    pub(crate) fn of(request: &'a Request) -> Result<Self, WireError> {
        let read: Result<Self, WireError> = request.read();
        let body = match read {
            Ok(body) => body,
            Err(problem) => return Err(first_mistake(request).unwrap_or(problem)),
        };
        body.check()?;
        Ok(body)
    }

    fn check(&self) -> Result<(), WireError> {
        expect_model(self.model.as_ref(), CHAT_MODEL)?;
        if self.messages.is_empty() {
            return Err(invalid("messages", "`messages` must hold at least one message"));
        }
        for (index, message) in self.messages.iter().enumerate() {
            if message.content.is_none() && !message.role.may_be_silent() {
                let param = format!("messages[{index}].content");
                return Err(invalid(param, "only a message of the assistant may have no content"));
            }
        }
        if !(1..=MOST_CHOICES).contains(&self.choices()) {
            return Err(invalid("n", format!("`n` must be from 1 to {MOST_CHOICES}")));
        }
        for (name, most) in
            [("max_completion_tokens", self.max_completion_tokens), ("max_tokens", self.max_tokens)]
        {
            if most == Some(0) {
                return Err(invalid(name, format!("`{name}` must be at least 1")));
            }
        }
        let stops = self.stops();
        if stops.len() > MOST_STOPS {
            return Err(invalid("stop", format!("`stop` holds at most {MOST_STOPS} sequences")));
        }
        if stops.iter().any(|stop| stop.is_empty()) {
            return Err(invalid("stop", "a stop sequence must not be empty"));
        }
        Ok(())
    }

    /// The model as the caller names it.
    pub(crate) fn model(&self) -> &str {
        self.model.as_ref().map_or(CHAT_MODEL, |Text(model)| model)
    }

    /// How many choices are wanted.
    pub(crate) fn choices(&self) -> u32 {
        self.n.unwrap_or(1)
    }

    /// The most tokens of a choice. The newer name counts where both are there.
    pub(crate) fn most_tokens(&self) -> Option<usize> {
        self.max_completion_tokens.or(self.max_tokens).map(|most| most as usize)
    }

    /// Where a choice ends.
    pub(crate) fn stops(&self) -> &[Cow<'a, str>] {
        self.stop.as_ref().map_or(&[], |Stop(stops)| stops)
    }

    /// Whether a stream ends with a chunk of its usage.
    pub(crate) fn wants_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false)
    }

    /// The tokens of all messages.
    pub(crate) fn prompt_tokens(&self) -> usize {
        let contents = self.messages.iter().filter_map(|message| message.content.as_ref());
        contents.flat_map(Content::texts).map(|text| count(text)).sum()
    }

    /// What the user said last, part after part; `None` where no user said anything.
    pub(crate) fn last_user_message(&self) -> Option<&[Cow<'a, str>]> {
        let message = self.messages.iter().rfind(|message| message.role == Role::User)?;
        message.content.as_ref().map(Content::texts)
    }
}

/// The first mistake of a body that could not be read, with its parameter.
fn first_mistake(request: &Request) -> Option<WireError> {
    let body: Value = request.payload().read().ok()?;
    mistake_in(&body).err()
}

fn mistake_in(body: &Value) -> Result<(), WireError> {
    if !body.is_object() {
        return Err(invalid("messages", "the body must be an object with `messages`"));
    }
    expect_text(body, "model")?;
    let messages = given(body, "messages").ok_or_else(|| invalid("messages", "`messages` is missing"))?;
    let messages = messages.as_array().ok_or_else(|| invalid("messages", "`messages` must be a list"))?;
    for (index, message) in messages.iter().enumerate() {
        mistake_in_message(&format!("messages[{index}]"), message)?;
    }
    for name in ["n", "max_tokens", "max_completion_tokens"] {
        expect_number(body, name)?;
    }
    let is_text = |value: &Value| value.is_string();
    match given(body, "stop") {
        None | Some(Value::String(_)) => {}
        Some(Value::Array(stops)) if stops.iter().all(is_text) => {}
        Some(_) => return Err(invalid("stop", "`stop` must be a string or a list of strings")),
    }
    match given(body, "stream_options") {
        None => Ok(()),
        Some(options) if !options.is_object() => {
            Err(invalid("stream_options", "`stream_options` must be an object"))
        }
        Some(options) if given(options, "include_usage").is_some_and(|value| !value.is_boolean()) => {
            Err(invalid("stream_options.include_usage", "`include_usage` must be true or false"))
        }
        Some(_) => Ok(()),
    }
}

fn mistake_in_message(path: &str, message: &Value) -> Result<(), WireError> {
    if !message.is_object() {
        return Err(invalid(path, "a message must be an object with `role` and `content`"));
    }
    let role = message.get("role").and_then(Value::as_str);
    if role.is_none_or(|role| !ROLES.contains(&role)) {
        return Err(invalid(format!("{path}.role"), format!("`role` must be one of {}", ROLES.join(", "))));
    }
    match given(message, "content") {
        None | Some(Value::String(_)) => Ok(()),
        Some(Value::Array(parts)) => {
            for (index, part) in parts.iter().enumerate() {
                let path = format!("{path}.content[{index}]");
                let Some(kind) = part.get("type").and_then(Value::as_str) else {
                    return Err(invalid(format!("{path}.type"), "a part must be an object with a `type`"));
                };
                let text = part.get("text").unwrap_or(&Value::Null);
                let text_is_right = text.is_string() || (text.is_null() && kind != "text");
                if !text_is_right {
                    return Err(invalid(format!("{path}.text"), "`text` must be a string"));
                }
            }
            Ok(())
        }
        Some(_) => Err(invalid(format!("{path}.content"), "`content` must be a string or a list of parts")),
    }
}
