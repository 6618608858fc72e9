//! The last lines that a service wrote. Whatever it writes is read at once, so that it never waits; what is kept is
//! bounded.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes kept of what a service wrote, the last ones.
const KEPT: usize = 16 * 1024;
/// Read at a time.
const CHUNK: usize = 64 * 1024;

/// The end of what a service wrote on both its streams. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Output(Arc<Mutex<VecDeque<u8>>>);

impl Output {
    /// Reads a stream to its end.
    pub(super) async fn drink(&self, mut stream: impl AsyncRead + Unpin) {
        let mut chunk = vec![0; CHUNK];
        while let Ok(read) = stream.read(&mut chunk).await
            && read > 0
        {
            self.add(&chunk[..read]);
        }
    }

    fn add(&self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(KEPT)..];
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let excess = (kept.len() + bytes.len()).saturating_sub(KEPT);
        kept.drain(..excess);
        kept.extend(bytes);
    }

    /// What is kept, from the first whole line on, without what a terminal would obey.
    pub(super) fn tail(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cut = kept.len() == KEPT;
        let bytes: Vec<u8> = kept.iter().copied().collect();
        drop(kept);
        let text = String::from_utf8_lossy(&bytes);
        let whole = if cut {
            text.split_once('\n').map_or(&*text, |(_, rest)| rest)
        } else {
            &text
        };
        whole
            .chars()
            .filter(|char| !char.is_control() || matches!(char, '\n' | '\t'))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_lines_are_kept_and_no_more() {
        let output = Output::default();
        output.drink(&b"one\x1b[31m\n"[..]).await;
        assert_eq!(output.tail(), "one[31m\n");
        let many: String = (0..100_000).map(|n| format!("line {n}\n")).collect();
        output.drink(many.as_bytes()).await;
        let tail = output.tail();
        assert!(
            tail.len() <= KEPT && tail.starts_with("line ") && tail.ends_with("line 99999\n"),
            "{tail}"
        );
    }
}
