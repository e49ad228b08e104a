//! A producer process that takes orders, one line each, in the contestant's own language.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::contestant::Contestant;

/// A running producer; killed when dropped.
#[derive(Debug)]
pub(crate) struct Producer {
    who: Contestant,
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Producer {
    pub(crate) fn start(who: Contestant, url: &str) -> Producer {
        let mut child = who
            .producer(url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start a producer of {}: {error}", who.name()));
        let orders = child.stdin.take().expect("the pipe was asked for");
        let answers = child.stdout.take().expect("the pipe was asked for");
        Producer {
            who,
            child,
            orders,
            answers: BufReader::new(answers),
        }
    }

    /// Puts one job; when its producer began to (nanoseconds since 1970), or why it could not.
    pub(crate) fn put(&mut self, job: u64, hold_ms: u64) -> Result<u64, String> {
        self.order(&format!("put {job} {hold_ms}"))
    }

    /// Puts so many jobs, one after the other.
    pub(crate) fn bulk(&mut self, first: u64, count: u64) {
        self.order(&format!("bulk {first} {count}"))
            .unwrap_or_else(|reason| panic!("{} takes no job: {reason}", self.who.name()));
    }

    fn order(&mut self, order: &str) -> Result<u64, String> {
        writeln!(self.orders, "{order}").expect("the producer listens");
        let mut answer = String::new();
        self.answers
            .read_line(&mut answer)
            .expect("the producer answers");
        match answer.trim_end().split_once(' ') {
            Some(("ok", at)) => Ok(at.parse().expect("a time")),
            Some(("failed", reason)) => Err(reason.to_owned()),
            _ => panic!("the producer of {} said `{answer}`", self.who.name()),
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
