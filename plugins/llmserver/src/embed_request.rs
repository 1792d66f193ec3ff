//! The body of `llm.embed`: what of it matters here, and what must be refused.
//!
//! The host packs vectors as its caller wants them; here `encoding_format` is only checked.

use std::borrow::Cow;
use std::fmt;

use bkg_sdk::{Request, WireError};
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::Value;

use crate::EMBED_MODEL;
use crate::body::{Text, expect_model, expect_number, expect_text, given, invalid};
use crate::embed::DIMENSIONS;
use crate::tokens::count;

/// The most inputs of one request, as with OpenAI.
const MOST_INPUTS: usize = 2048;

#[derive(Debug, Deserialize)]
pub(crate) struct EmbedRequest<'a> {
    #[serde(borrow)]
    pub(crate) model: Option<Text<'a>>,
    #[serde(borrow)]
    input: Inputs<'a>,
    dimensions: Option<usize>,
    #[serde(borrow)]
    encoding_format: Option<Text<'a>>,
}

/// What becomes one vector.
#[derive(Debug)]
pub(crate) enum Input<'a> {
    Text(Cow<'a, str>),
    Tokens(Vec<u64>),
}

impl Input<'_> {
    /// How many tokens it has.
    pub(crate) fn tokens(&self) -> usize {
        match self {
            Self::Text(text) => count(text),
            Self::Tokens(tokens) => tokens.len(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Tokens(tokens) => tokens.is_empty(),
        }
    }
}

#[derive(Debug)]
struct Inputs<'a>(Vec<Input<'a>>);

/// One element of a list: a text, a list of tokens, or a token of the list itself.
enum Element<'a> {
    Input(Input<'a>),
    Token(u64),
}

impl<'de> Deserialize<'de> for Element<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Element<'de>;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a string, a token or a list of tokens")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Element::Input(Input::Text(Cow::Borrowed(text))))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Element::Input(Input::Text(Cow::Owned(text.to_owned()))))
            }
            fn visit_u64<E>(self, token: u64) -> Result<Self::Value, E> {
                Ok(Element::Token(token))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut tokens = Vec::new();
                while let Some(token) = items.next_element()? {
                    tokens.push(token);
                }
                Ok(Element::Input(Input::Tokens(tokens)))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Inputs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Inputs<'de>;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a string, a list of strings, a list of tokens, or a list of lists of tokens")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Inputs(vec![Input::Text(Cow::Borrowed(text))]))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Inputs(vec![Input::Text(Cow::Owned(text.to_owned()))]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let (mut inputs, mut tokens) = (Vec::new(), Vec::new());
                while let Some(element) = items.next_element()? {
                    match element {
                        Element::Input(input) => inputs.push(input),
                        Element::Token(token) => tokens.push(token),
                    }
                }
                match (inputs.is_empty(), tokens.is_empty()) {
                    (false, false) => Err(serde::de::Error::custom("tokens and texts are mixed")),
                    (true, false) => Ok(Inputs(vec![Input::Tokens(tokens)])),
                    _ => Ok(Inputs(inputs)),
                }
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'a> EmbedRequest<'a> {
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
        expect_model(self.model.as_ref(), EMBED_MODEL)?;
        if self.inputs().is_empty() || self.inputs().iter().any(Input::is_empty) {
            return Err(invalid("input", "`input` must not be empty, nor any of its elements"));
        }
        if self.inputs().len() > MOST_INPUTS {
            return Err(invalid("input", format!("`input` holds at most {MOST_INPUTS} elements")));
        }
        if !(1..=DIMENSIONS).contains(&self.dimensions()) {
            return Err(invalid("dimensions", format!("`dimensions` must be from 1 to {DIMENSIONS}")));
        }
        if let Some(Text(format)) = &self.encoding_format
            && !matches!(&**format, "float" | "base64")
        {
            return Err(invalid("encoding_format", "`encoding_format` must be `float` or `base64`"));
        }
        Ok(())
    }

    /// What becomes vectors, in order.
    pub(crate) fn inputs(&self) -> &[Input<'a>] {
        &self.input.0
    }

    /// The length of the vectors.
    pub(crate) fn dimensions(&self) -> usize {
        self.dimensions.unwrap_or(DIMENSIONS)
    }

    /// The model as the caller names it.
    pub(crate) fn model(&self) -> &str {
        self.model.as_ref().map_or(EMBED_MODEL, |Text(model)| model)
    }
}

/// The first mistake of a body that could not be read, with its parameter.
fn first_mistake(request: &Request) -> Option<WireError> {
    let body: Value = request.payload().read().ok()?;
    let mistake = || -> Result<(), WireError> {
        expect_text(&body, "model")?;
        expect_number(&body, "dimensions")?;
        expect_text(&body, "encoding_format")?;
        let missing = given(&body, "input").is_none();
        let what = if missing { "`input` is missing" } else { "`input` has a form that cannot be read" };
        let forms = "a string, a list of strings, a list of tokens, or a list of lists of tokens";
        Err(invalid("input", format!("{what}: use {forms}")))
    };
    mistake().err()
}
