//! Names of functions and chains, as types: what has one of them is known to be
//! a name, and which kind of chain a name means is decided here alone.

use super::values::is_name;
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// A text that is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name: use 1 to 63 of a-z, 0-9, - and _")]
pub struct NotAName(String);

/// The name of a function: 1 to 63 of `a-z`, `0-9`, `-` and `_`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FunctionName(Arc<str>);

/// The name of a group of functions, which are merged into one worker: 1 to 63 of
/// `a-z`, `0-9`, `-` and `_`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GroupName(Arc<str>);

/// The group of functions that name none.
impl Default for GroupName {
    fn default() -> Self {
        Self("default".into())
    }
}

/// The name of a chain as the workers have it: one of the file; a function that
/// is served alone (`functions/NAME`); the part of a chain that the workers of one
/// group run between steps elsewhere (`CHAIN/STEP`); or a function of a chain's that
/// another group's functions call (`CHAIN/calls/FUNCTION`). In texts, in maps and in
/// metrics it is one word; names have no slash, so a word means one chain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChainId(Arc<str>);

/// What a [`ChainId`] means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind<'a> {
    /// A chain of the file.
    Named(&'a str),
    /// One step, this function.
    Function(&'a str),
    /// A part of a chain of the file.
    Part {
        /// The chain.
        of: &'a str,
        /// The part's first step, from 1.
        step: usize,
    },
    /// A function that is called from another group.
    Callee {
        /// The chain in which it is: of the file, or a function served alone.
        of: &'a str,
        /// Its name.
        function: &'a str,
    },
}

const FUNCTIONS: &str = "functions";
/// Between a chain and a function in it. A function served alone may be called
/// `calls`, so the last one of a text counts.
const CALLS: &str = "/calls/";

impl ChainId {
    /// A chain of the file.
    ///
    /// # Errors
    /// The text is no name.
    pub fn named(text: &str) -> Result<Self, NotAName> {
        if !is_name(text) {
            return Err(NotAName(text.to_owned()));
        }
        Ok(Self(text.into()))
    }

    /// The chain of one step by which a function is served alone.
    pub fn of_function(function: &FunctionName) -> Self {
        Self(format!("{FUNCTIONS}/{function}").into())
    }

    /// The part of a chain of the file that begins at a step, from 1. `None` of
    /// what is a part, or a function, already.
    pub fn part(&self, step: usize) -> Option<Self> {
        match self.kind() {
            ChainKind::Named(chain) => Some(Self(format!("{chain}/{step}").into())),
            ChainKind::Function(_) | ChainKind::Part { .. } | ChainKind::Callee { .. } => None,
        }
    }

    /// The chain of one step by which a function of this chain, of the file or a
    /// function served alone, is called from other groups.
    pub(crate) fn callee(&self, function: &FunctionName) -> Self {
        Self(format!("{}{CALLS}{function}", self.of()).into())
    }

    /// The chain of the file, or the function served alone, that it is or is of.
    pub fn of(&self) -> &str {
        match self.kind() {
            ChainKind::Named(_) | ChainKind::Function(_) => &self.0,
            ChainKind::Part { of, .. } | ChainKind::Callee { of, .. } => of,
        }
    }

    /// What it means.
    pub fn kind(&self) -> ChainKind<'_> {
        if let Some((of, function)) = self.0.rsplit_once(CALLS) {
            return ChainKind::Callee { of, function };
        }
        match self.0.split_once('/') {
            None => ChainKind::Named(&self.0),
            Some((FUNCTIONS, function)) => ChainKind::Function(function),
            Some((of, step)) => ChainKind::Part {
                of,
                // Every constructor has seen that it is a number.
                step: step.parse().unwrap_or_default(),
            },
        }
    }

    /// The name as a text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ChainId {
    type Error = NotAName;

    fn try_from(text: String) -> Result<Self, NotAName> {
        let alone = |text: &str| {
            let function = text.strip_prefix(FUNCTIONS);
            let function = function.and_then(|text| text.strip_prefix('/'));
            is_name(function.unwrap_or(text))
        };
        let fits = match (text.rsplit_once(CALLS), text.split_once('/')) {
            (Some((of, function)), _) => alone(of) && is_name(function),
            (None, None | Some((FUNCTIONS, _))) => alone(&text),
            (None, Some((of, step))) => {
                is_name(of) && step.parse::<usize>().is_ok_and(|n| n.to_string() == step)
            }
        };
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(NotAName(text))
        }
    }
}

/// What names have that are one word: 1 to 63 of `a-z`, `0-9`, `-` and `_`.
macro_rules! is_one_word {
    ($($name:ident)*) => {$(
        impl $name {
            /// The text as a name.
            ///
            /// # Errors
            /// It is none.
            pub fn new(text: &str) -> Result<Self, NotAName> {
                if !is_name(text) {
                    return Err(NotAName(text.to_owned()));
                }
                Ok(Self(text.into()))
            }

            /// The name as a text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NotAName;

            fn try_from(text: String) -> Result<Self, NotAName> {
                Self::new(&text)
            }
        }
    )*};
}

is_one_word!(FunctionName GroupName);

/// What all types of names have; ordered and compared as their texts are, so
/// that a map is searched by a text.
macro_rules! is_a_text {
    ($($name:ident)*) => {$(
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                &*self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                &*self.0 == *other
            }
        }
    )*};
}

is_a_text!(FunctionName GroupName ChainId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_means_one_chain() {
        let chain = ChainId::named("a-b").unwrap();
        let function = ChainId::of_function(&FunctionName::new("f").unwrap());
        let part = chain.part(3).unwrap();
        assert_eq!(chain.kind(), ChainKind::Named("a-b"));
        assert_eq!(function.kind(), ChainKind::Function("f"));
        assert_eq!(part.kind(), ChainKind::Part { of: "a-b", step: 3 });
        let g = FunctionName::new("g").unwrap();
        let calls = ChainId::of_function(&FunctionName::new("calls").unwrap());
        let called = [&chain, &part, &function, &calls].map(|c| c.callee(&g));
        for (called, of) in called
            .iter()
            .zip(["a-b", "a-b", "functions/f", "functions/calls"])
        {
            let function = "g";
            assert_eq!(called.kind(), ChainKind::Callee { of, function });
            assert_eq!((called.of(), called.part(1)), (of, None));
            assert_eq!(called.callee(&g), *called);
        }
        assert_eq!(calls.kind(), ChainKind::Function("calls"));
        for id in [chain, function, part, calls].into_iter().chain(called) {
            let json = serde_json::to_string(&id).unwrap();
            assert_eq!(json, format!("\"{id}\""));
            assert_eq!(serde_json::from_str::<ChainId>(&json).unwrap(), id);
        }
    }

    #[test]
    fn no_other_text_is_a_name() {
        for bad in ["", "A", "a b", "a.b", "../a", &"a".repeat(64)] {
            assert!(FunctionName::new(bad).is_err(), "{bad:?}");
            assert!(GroupName::new(bad).is_err(), "{bad:?}");
            assert!(ChainId::named(bad).is_err(), "{bad:?}");
            assert!(ChainId::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
        for bad in [
            "a/b",
            "a/",
            "/1",
            "a/1/2",
            "a/01",
            "a/+1",
            "functions/",
            "a/calls/",
            "/calls/f",
            "a/1/calls/f",
            "a/calls/f/1",
            "functions//calls/f",
            "a/calls/f/calls/g",
        ] {
            assert!(ChainId::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
