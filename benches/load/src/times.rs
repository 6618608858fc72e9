//! How long each of many things took, and the line of JSON that says it.

use crate::poll::{cpu, now};

/// What was measured so far.
pub struct Times {
    begin: u64,
    /// Tenths of microseconds.
    each: Vec<u32>,
}

impl Times {
    /// Nothing was measured yet; the time begins to run.
    pub fn begin() -> Self {
        Self {
            begin: now(),
            each: Vec::new(),
        }
    }

    /// The time begins to run now: what came before was preparation.
    pub fn begin_again(&mut self) {
        self.begin = now();
    }

    pub fn done(&self) -> u64 {
        self.each.len() as u64
    }

    /// One more has ended, which began then.
    pub fn took(&mut self, since: u64) {
        let took = (now() - since) / 100;
        self.each.push(u32::try_from(took).unwrap_or(u32::MAX));
    }

    /// These bytes of an event stream came; each event says when it was written.
    pub fn events(&mut self, bytes: &[u8]) {
        for line in String::from_utf8_lossy(bytes).lines() {
            let at = line
                .strip_prefix("data: ")
                .and_then(|at| at.parse::<u64>().ok());
            if let Some(at) = at {
                self.took(at);
            }
        }
    }

    pub fn report(&mut self) {
        let seconds = (now() - self.begin) as f64 / 1e9;
        self.each.sort_unstable();
        let at = |share: f64| {
            let index = (self.each.len() as f64 * share) as usize;
            let found = self.each.get(index.min(self.each.len().saturating_sub(1)));
            found.map_or(0.0, |&time| f64::from(time) / 10.0)
        };
        println!(
            "{{\"done\": {}, \"seconds\": {seconds:.6}, \"cpu_ns\": {}, \"p50_us\": {:.1}, \"p99_us\": {:.1}}}",
            self.each.len(),
            cpu(),
            at(0.5),
            at(0.99)
        );
    }
}
