//! A body, as it is read.

use std::task::{Poll, ready};

use bytes::Bytes;

use super::chunked::{ChunkError, Chunked};
use crate::gateway::headers::Framing;

/// What of a body is to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::gateway) enum Reading {
    /// So many bytes.
    Exact(u64),
    /// It says itself where it ends.
    Chunked(Chunked),
    /// All that comes.
    ToEnd,
    /// Nothing.
    Whole,
}

impl Reading {
    pub(in crate::gateway) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Length(0) => Self::Whole,
            Framing::Length(length) => Self::Exact(length),
            Framing::Chunked => Self::Chunked(Chunked::new()),
            Framing::Open => Self::ToEnd,
        }
    }

    /// How many bytes of the body are to come, if that is known.
    pub(in crate::gateway) fn left(&self) -> Option<u64> {
        match self {
            Self::Exact(left) => Some(*left),
            Self::Whole => Some(0),
            Self::Chunked(_) | Self::ToEnd => None,
        }
    }

    /// Whether all of it has been read.
    pub(in crate::gateway) fn is_whole(&self) -> bool {
        *self == Self::Whole
    }

    /// More of the body, out of what was read ahead, or else of what `more` reads; `None` at its end.
    pub(in crate::gateway) fn poll<E: From<ChunkError>>(
        &mut self,
        early: &mut Bytes,
        mut more: impl FnMut() -> Poll<Result<Bytes, E>>,
    ) -> Poll<Option<Result<Bytes, E>>> {
        loop {
            if self.is_whole() {
                return Poll::Ready(None);
            }
            let data = if early.is_empty() {
                match ready!(more()) {
                    Ok(data) => data,
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
            } else {
                std::mem::take(early)
            };
            match self.take(data) {
                Ok((data, rest)) => {
                    *early = rest;
                    // Nothing but the coding, or the end.
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    /// What of the bytes is of the body, and what comes after it. No bytes are the end of the connection.
    ///
    /// # Errors
    /// If the coding is broken.
    pub(in crate::gateway) fn take(
        &mut self,
        mut bytes: Bytes,
    ) -> Result<(Bytes, Bytes), ChunkError> {
        match self {
            Self::Exact(left) => {
                let here = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                let rest = bytes.split_off(here);
                *left -= here as u64;
                if *left == 0 {
                    *self = Self::Whole;
                }
                Ok((bytes, rest))
            }
            Self::Chunked(chunked) => {
                let mut body = Vec::with_capacity(bytes.len());
                let length = chunked.read(&bytes, &mut body)?;
                if chunked.is_whole() {
                    *self = Self::Whole;
                }
                Ok((body.into(), bytes.split_off(length)))
            }
            Self::ToEnd => {
                if bytes.is_empty() {
                    *self = Self::Whole;
                }
                Ok((bytes, Bytes::new()))
            }
            Self::Whole => Ok((Bytes::new(), bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_ends_where_its_framing_says_and_what_follows_is_left() {
        let text = |text: &'static str| Bytes::from_static(text.as_bytes());
        for (framing, pieces, expected) in [
            (Framing::Length(0), &["x"][..], "|x whole"),
            (Framing::Length(4), &["go", "od"], "go| od| whole"),
            (Framing::Length(4), &["go", "odx"], "go| od|x whole"),
            (Framing::Length(4), &["goo"], "goo| 1 left"),
            (
                Framing::Chunked,
                &["4\r\ngo", "od\r\n0\r\n\r\nx"],
                "go| od|x whole",
            ),
            (Framing::Chunked, &["4\r\ngo"], "go| more"),
            (Framing::Open, &["go", "od", ""], "go| od| | whole"),
            (Framing::Open, &["good"], "good| more"),
        ] {
            let mut reading = Reading::new(framing);
            let mut found = String::new();
            for piece in pieces {
                let (body, rest) = reading.take(text(piece)).unwrap();
                found += &format!("{}|{} ", body.escape_ascii(), rest.escape_ascii());
            }
            found += &match (reading.left(), reading == Reading::Whole) {
                (Some(0), true) => "whole".to_owned(),
                (Some(left), false) => format!("{left} left"),
                (None, false) => "more".to_owned(),
                other => format!("{other:?}"),
            };
            assert_eq!(found, expected, "{framing:?} {pieces:?}");
        }
        assert!(Reading::new(Framing::Chunked).take(text("x")).is_err());
    }
}
