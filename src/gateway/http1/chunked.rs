//! The chunked coding (RFC 9112 section 7.1), read piece by piece, pure.

/// Bytes of chunk extensions, and of trailers, that one body may have: nobody needs them.
const EXTRA: usize = 16 * 1024;

/// Why a body is not chunked, though its head says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::gateway) enum ChunkError {
    /// A size that is no number, or too large for one.
    #[error("the size of a chunk is not valid")]
    Size,
    /// Something else than the end of a line where one has to be.
    #[error("a chunk or a line of its coding does not end where it has to")]
    End,
    /// More of extensions and trailers than a body may have.
    #[error("its coding takes too much room")]
    Extra,
}

/// Where the reading of one body stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::gateway) struct Chunked {
    state: State,
    /// Of the chunk at hand.
    left: u64,
    /// That extensions and trailers may still have.
    extra: usize,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first digit of a size.
    Size,
    /// Another digit, or what ends the size.
    Digits,
    /// Space, which some write after a size.
    Space,
    /// The rest of an extension.
    Extension,
    /// The end of the line of a size.
    SizeEnd,
    Data,
    /// The two bytes after a chunk.
    DataCr,
    DataLf,
    /// The beginning of a line of the trailers.
    Line,
    /// The rest of one.
    Trailer,
    TrailerEnd,
    /// The last byte.
    Last,
    Whole,
}

impl Chunked {
    pub(super) fn new() -> Self {
        Self {
            state: State::Size,
            left: 0,
            extra: EXTRA,
        }
    }

    /// Whether the body has ended.
    pub(super) fn is_whole(&self) -> bool {
        self.state == State::Whole
    }

    /// Reads on, and appends what belongs to the body. Returns how many bytes were read: all, unless the body has ended
    /// among them.
    ///
    /// # Errors
    /// If the coding is broken. What was appended before is no part of a body then.
    pub(super) fn read(&mut self, bytes: &[u8], body: &mut Vec<u8>) -> Result<usize, ChunkError> {
        let mut at = 0;
        while at < bytes.len() && !self.is_whole() {
            if self.state == State::Data {
                let rest = &bytes[at..];
                let here =
                    usize::try_from(self.left).map_or(rest.len(), |left| left.min(rest.len()));
                body.extend_from_slice(&rest[..here]);
                at += here;
                self.left -= here as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            self.step(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }

    /// Takes one byte of the coding.
    fn step(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.state = match (self.state, byte) {
            (State::Size | State::Digits, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).ok_or(ChunkError::Size)?;
                let left = self.left.checked_mul(16).ok_or(ChunkError::Size)?;
                self.left = left + u64::from(digit);
                State::Digits
            }
            (State::Digits | State::Space, b'\t' | b' ') => self.room(State::Space)?,
            (State::Digits | State::Space, b';') => self.room(State::Extension)?,
            (State::Digits | State::Space | State::Extension, b'\r') => State::SizeEnd,
            (State::Size | State::Digits | State::Space, _) => return Err(ChunkError::Size),
            // Where some readers see the end of the line, and others none (CVE-2024-6827).
            (State::Extension | State::Trailer, b'\n') => return Err(ChunkError::End),
            (State::Extension, _) => self.room(State::Extension)?,
            (State::SizeEnd, b'\n') if self.left == 0 => State::Line,
            (State::SizeEnd, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::Line, b'\r') => State::Last,
            (State::Line, b'\n') => return Err(ChunkError::End),
            (State::Trailer, b'\r') => State::TrailerEnd,
            (State::Line | State::Trailer, _) => self.room(State::Trailer)?,
            (State::TrailerEnd, b'\n') => State::Line,
            (State::Last, b'\n') => State::Whole,
            (
                State::SizeEnd | State::DataCr | State::DataLf | State::TrailerEnd | State::Last,
                _,
            ) => return Err(ChunkError::End),
            (State::Data | State::Whole, _) => self.state,
        };
        Ok(())
    }

    /// Goes on, one byte of extensions and trailers later.
    fn room(&mut self, next: State) -> Result<State, ChunkError> {
        self.extra = self.extra.checked_sub(1).ok_or(ChunkError::Extra)?;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads it in pieces of this size: the body, and how many bytes came after it.
    fn read(bytes: &[u8], size: usize) -> Result<(Vec<u8>, Option<usize>), ChunkError> {
        let (mut chunked, mut body, mut at) = (Chunked::new(), Vec::new(), 0);
        for piece in bytes.chunks(size) {
            at += chunked.read(piece, &mut body)?;
        }
        Ok((body, chunked.is_whole().then(|| bytes.len() - at)))
    }

    #[test]
    fn a_body_is_what_its_chunks_say_or_nothing() {
        use ChunkError::{End, Extra, Size};
        let long = |text: &str| text.replace('*', &"x".repeat(EXTRA));
        type Row = (
            &'static str,
            Result<(&'static str, Option<usize>), ChunkError>,
        );
        let table: [Row; 34] = [
            ("0\r\n\r\n", Ok(("", Some(0)))),
            ("4\r\ngood\r\n0\r\n\r\n", Ok(("good", Some(0)))),
            (
                "4\r\ngood\r\n00000000000000000000\r\n\r\nHTTP",
                Ok(("good", Some(4))),
            ),
            ("2\r\ngo\r\n2\r\nod\r\n0\r\n\r\n", Ok(("good", Some(0)))),
            ("A\r\n0123456789\r\n0\r\n\r\n", Ok(("0123456789", Some(0)))),
            ("4;a=b;c\r\ngood\r\n0;d\r\n\r\n", Ok(("good", Some(0)))),
            ("4 \t\r\ngood\r\n0 ;x\r\n\r\n", Ok(("good", Some(0)))),
            (
                "4\r\ngood\r\n0\r\na: b\r\nc: d\r\n\r\n",
                Ok(("good", Some(0))),
            ),
            ("4\r\ngood\r\n0\r\n", Ok(("good", None))),
            ("4\r\ngood\r\n0\r\n\r", Ok(("good", None))),
            ("4\r\ngood\r\n", Ok(("good", None))),
            ("4\r\ngo", Ok(("go", None))),
            ("4", Ok(("", None))),
            ("", Ok(("", None))),
            ("\r\n", Err(Size)),
            (";\r\n", Err(Size)),
            (" 4\r\ngood\r\n", Err(Size)),
            ("x\r\n", Err(Size)),
            ("0x4\r\ngood\r\n", Err(Size)),
            ("-4\r\ngood\r\n", Err(Size)),
            ("+4\r\ngood\r\n", Err(Size)),
            ("4 4\r\ngood\r\n", Err(Size)),
            ("4\ngood\n0\n\n", Err(Size)),
            ("fffffffffffffffff\r\n", Err(Size)),
            ("4\rgood\r\n", Err(End)),
            ("4;\ngood\r\n", Err(End)),
            ("4\r\ngoodX0\r\n\r\n", Err(End)),
            ("4\r\ngood\n0\r\n\r\n", Err(End)),
            ("4\r\ngood\rX", Err(End)),
            ("0\r\n\n", Err(End)),
            ("0\r\na: b\n\r\n", Err(End)),
            ("0\r\na: b\rc\r\n\r\n", Err(End)),
            ("4;**\r\ngood\r\n", Err(Extra)),
            ("0\r\n*: *\r\n\r\n", Err(Extra)),
        ];
        for (text, expected) in table {
            let text = long(text);
            let expected = expected.map(|(body, rest)| (body.as_bytes().to_vec(), rest));
            for size in [1, 2, 3, 7, text.len().max(1)] {
                assert_eq!(
                    read(text.as_bytes(), size),
                    expected,
                    "{text:.40?} by {size}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn what_was_chunked_comes_back(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..6),
            rest in prop::collection::vec(any::<u8>(), 0..9),
            size in 1_usize..400,
        ) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            bytes.extend_from_slice(&rest);
            prop_assert_eq!(read(&bytes, size), Ok((chunks.concat(), Some(rest.len()))));
        }

        #[test]
        fn no_bytes_upset_it(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 1_usize..50) {
            let whole = read(&bytes, bytes.len().max(1));
            prop_assert_eq!(read(&bytes, size), whole);
        }
    }
}
