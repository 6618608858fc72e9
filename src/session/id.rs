//! The identity of a session: the UUID of its project, and the one spelling of it that a URL may hold.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// Names one session: the UUID of its project.
///
/// It identifies and never authenticates. Its text is the canonical lower-case hyphenated form (RFC 9562 section 4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Uuid);

/// The text is no canonical lower-case hyphenated UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a session id: expected a UUID in lower case with hyphens, such as 3f2b8c1e-5d4a-4c6b-9e7f-0a1b2c3d4e5f"
)]
pub struct SessionIdError;

impl SessionId {
    /// Length of the text form in bytes.
    pub const LEN: usize = 36;

    /// A new random identity (version 4).
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// Reads the raw bytes of a path segment, without decoding them.
    ///
    /// # Errors
    /// Everything but the canonical form: [`Uuid`] also reads braces, URNs and capitals, and one session must have
    /// one URL.
    pub fn from_bytes(text: &[u8]) -> Result<Self, SessionIdError> {
        let id = Uuid::try_parse_ascii(text).map_err(|_| SessionIdError)?;
        let canonical = id
            .as_hyphenated()
            .encode_lower(&mut Uuid::encode_buffer())
            .as_bytes()
            == text;
        canonical.then_some(Self(id)).ok_or(SessionIdError)
    }
}

impl FromStr for SessionId {
    type Err = SessionIdError;

    fn from_str(text: &str) -> Result<Self, SessionIdError> {
        Self::from_bytes(text.as_bytes())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f2b8c1e-5d4a-4c6b-9e7f-0a1b2c3d4e5f";

    #[test]
    fn only_the_canonical_spelling_is_a_session_id() {
        assert_eq!(ID.parse::<SessionId>().unwrap().to_string(), ID);
        let others = [
            ID.to_uppercase(),
            ID.replace('-', ""),
            format!("{{{ID}}}"),
            format!("urn:uuid:{ID}"),
            ID[1..].to_owned(),
            format!("{ID}0"),
            ID.replace('3', "%33"),
            ID.replace('-', "_"),
            String::new(),
        ];
        for text in others {
            assert_eq!(text.parse::<SessionId>(), Err(SessionIdError), "{text}");
        }
    }
}
