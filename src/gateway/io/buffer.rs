//! What is read of bodies and tunnels on its way: the buffers of one worker, which nobody keeps while nothing moves.

use std::{
    cell::{Cell, RefCell},
    mem,
};

use bytes::Bytes;

/// Read at a time: the larger, the fewer calls of the kernel. A quarter of it costs a sixth more for each byte.
const SIZE: usize = 256 * 1024;
/// Buffers that a worker keeps though nobody uses them. One is enough as long as everything goes out at once.
const SPARE: usize = 2;
/// So much of what does not go out at once is copied aside; for more, the buffer that it was read into is kept until
/// it has gone out.
const COPIED: usize = SIZE / 4;
/// So much is copied for less than it costs to do without its buffer.
const LITTLE: usize = SIZE / 16;
/// Buffers of a worker that wait for slow clients, above which less is read at a time, and copied aside.
const KEPT: usize = 16;

thread_local! {
    /// Buffers that are in use.
    static TAKEN: Cell<usize> = const { Cell::new(0) };
    static SPARES: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// One of the worker's buffers, which has it back when this is dropped.
pub(in crate::gateway) struct Buffer(pub(in crate::gateway) Box<[u8]>);

impl Buffer {
    /// One that nobody uses; what is in it means nothing.
    pub(in crate::gateway) fn take() -> Self {
        TAKEN.set(TAKEN.get() + 1);
        let spare = SPARES.with_borrow_mut(Vec::pop);
        Self(spare.unwrap_or_else(|| vec![0; SIZE].into()))
    }

    /// How much to read into it at a time, so that slow clients in any number keep few buffers.
    pub(in crate::gateway) fn room() -> usize {
        if TAKEN.get() > KEPT {
            COPIED
        } else {
            SIZE - COPIED
        }
    }

    /// Of the first bytes in it, so many, those from `from` on, for whoever takes them at once as a rule.
    pub(in crate::gateway) fn part(self, from: usize, length: usize) -> Bytes {
        if length - from <= LITTLE || TAKEN.get() > KEPT {
            Bytes::copy_from_slice(&self.0[from..length])
        } else {
            Bytes::from_owner(self).slice(from..length)
        }
    }

    /// Of the first bytes in it, so many, those from `written` on, for later.
    pub(in crate::gateway) fn rest(self, written: usize, length: usize) -> Bytes {
        match length - written {
            // Nothing is allocated for nothing.
            0 => Bytes::new(),
            1..=COPIED => Bytes::copy_from_slice(&self.0[written..length]),
            _ => Bytes::from_owner(self).slice(written..length),
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let buffer = mem::take(&mut self.0);
        let _ = TAKEN.try_with(|taken| taken.set(taken.get() - 1));
        // At the end of the thread there is no place for it any more.
        let _ = SPARES.try_with(|spares| {
            let mut spares = spares.borrow_mut();
            if spares.len() < SPARE {
                spares.push(buffer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spares() -> usize {
        SPARES.with_borrow(Vec::len)
    }

    #[test]
    fn what_is_left_over_keeps_its_buffer_only_if_it_is_much() {
        let mut buffer = Buffer::take();
        buffer.0[SIZE - 2..].copy_from_slice(b"ab");
        let little = buffer.rest(SIZE - 2, SIZE);
        assert_eq!((&little[..], spares()), (&b"ab"[..], 1));

        let mut buffer = Buffer::take();
        buffer.0[1] = 7;
        let mut much = buffer.rest(1, SIZE);
        assert_eq!((much[0], much.len(), spares()), (7, SIZE - 1, 0));
        let _ = much.split_to(SIZE - 2);
        assert_eq!(spares(), 0);
        drop(much);
        assert_eq!(spares(), 1);
        assert!(Buffer::take().rest(5, 5).is_empty());
        assert_eq!(spares(), 1);
    }

    #[test]
    fn a_worker_keeps_few_buffers_that_nobody_uses() {
        let many: Vec<_> = (0..3 * SPARE).map(|_| Buffer::take()).collect();
        drop(many);
        assert_eq!(spares(), SPARE);
    }
}
