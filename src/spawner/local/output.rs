//! The last lines a service wrote: read at any speed, kept within a bound, shown without control characters.

use std::{
    collections::VecDeque,
    io,
    sync::{Mutex, PoisonError},
};

use tokio::{io::AsyncReadExt, net::unix::pipe};

/// How many bytes are kept: some screens full, and no more for a service that prints without end.
const BYTES: usize = 64 * 1024;
/// How many lines are shown.
const LINES: usize = 200;
/// What is read at once: half of a pipe's own buffer, so that the service can go on writing meanwhile.
const CHUNK: usize = 32 * 1024;

/// The end of what one service wrote to stdout and stderr, as it came.
#[derive(Debug, Default)]
pub(super) struct Output(Mutex<VecDeque<u8>>);

impl Output {
    /// Takes in everything until nobody holds the pipe's other end. Cancelling it loses nothing that was taken in.
    pub(super) async fn follow(&self, mut pipe: pipe::Receiver) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let length = pipe.read(&mut chunk).await?;
            if length == 0 {
                return Ok(());
            }
            self.push(&chunk[..length]);
        }
    }

    fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = &bytes[bytes.len().saturating_sub(BYTES)..];
        let surplus = (kept.len() + bytes.len()).saturating_sub(BYTES);
        kept.drain(..surplus);
        kept.extend(bytes);
    }

    /// The last lines, oldest first, as text for people: no terminal sequences and no control characters but the ends
    /// of lines. It is still text from the service: whoever puts it into a page escapes it.
    pub(super) fn tail(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_cut = kept.len() == BYTES;
        let bytes: Vec<u8> = kept.iter().copied().collect();
        drop(kept);
        let text = plain(&String::from_utf8_lossy(&bytes));
        let mut lines: Vec<&str> = text.lines().skip(usize::from(is_cut)).collect();
        if lines.is_empty() {
            // One line without an end: its end is better than nothing.
            lines = text.lines().collect();
        }
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

/// Takes off what a terminal would act on. A line that was written over and over, as progress bars do, is its last
/// state.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut start_of_line = 0;
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\n' => {
                plain.push('\n');
                start_of_line = plain.len();
            }
            '\r' if chars.peek() == Some(&'\n') => {}
            '\r' => plain.truncate(start_of_line),
            '\t' => plain.push('\t'),
            '\x1b' => skip_sequence(&mut chars),
            char if char.is_control() => {}
            char => plain.push(char),
        }
    }
    plain
}

/// ECMA-48: after ESC, `[` begins a control sequence, ended by a byte from `@` to `~`; `]` and its like begin a
/// string, ended by BEL or by ESC and a backslash; anything else is one character.
fn skip_sequence(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    // A sequence that was cut short must not swallow the lines after it.
    let mut next = || chars.next_if(|&char| char != '\n');
    match next() {
        Some('[') => while next().is_some_and(|char| !('@'..='~').contains(&char)) {},
        Some(']' | 'P' | 'X' | '^' | '_') => loop {
            match next() {
                Some('\x1b') => {
                    next();
                    return;
                }
                Some('\x07') | None => return,
                Some(_) => {}
            }
        },
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(written: &[&[u8]]) -> String {
        let output = Output::default();
        for bytes in written {
            output.push(bytes);
        }
        output.tail()
    }

    #[test]
    fn a_tail_is_plain_text() {
        let table: [(&[u8], &str); 9] = [
            (b"a\nb\n", "a\nb"),
            (b"a\r\nb", "a\nb"),
            (b"10 %\r20 %\rdone\n", "done"),
            (b"\x1b[1;31mred\x1b[0m\ttab", "red\ttab"),
            (b"\x1b]0;title\x07x\x1b]8;;http://a\x1b\\y", "xy"),
            (b"\x1b(Bx\x1b7y\x08\x00\x7f", "Bxy"),
            (b"\x1b[12\nnext", "\nnext"),
            (b"\xff\xfe bytes", "\u{fffd}\u{fffd} bytes"),
            (b"", ""),
        ];
        for (written, shown) in table {
            assert_eq!(tail(&[written]), shown, "{written:?}");
        }
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let lines: Vec<String> = (0..50_000).map(|n| format!("line {n}\n")).collect();
        let text = lines.concat();
        let expected = lines[50_000 - LINES..].concat();
        for size in [1, 7, 4096, text.len()] {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            assert_eq!(tail(&pieces), expected.trim_end(), "in pieces of {size}");
        }
        let long = "x".repeat(2 * BYTES);
        assert_eq!(tail(&[long.as_bytes()]), long[..BYTES]);
        let lines_after = format!("{long}\nend");
        assert_eq!(tail(&[lines_after.as_bytes()]), "end");
    }
}
