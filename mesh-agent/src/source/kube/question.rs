//! Whether the server is still there: when to ask, and what an answer says. Pure; time is handed in.
//!
//! A connection that was cut off in the middle is as silent as one on which nothing happens.

use std::time::{Duration, Instant};

/// After so long without a word from any watch the server is asked, and so long after an answer again.
const ASK_AFTER: Duration = Duration::from_secs(15);
/// How long it may take to answer.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
/// After a question without an answer the next comes this much later.
const AGAIN: Duration = Duration::from_secs(1);

/// What is known of the server beside its watches.
#[derive(Debug, Default)]
pub(super) struct Question {
    /// When it was asked last, or answered last.
    last: Option<Instant>,
    /// It has been asked and has not answered yet; one question at a time.
    open: bool,
    /// The last question was not answered.
    unanswered: bool,
}

/// What an answer, or its lack, means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It is there and was all the time.
    Fine,
    /// It does not answer.
    Away,
    /// It is back. The watches of before were cut off with the connection, and nobody told them.
    Back,
}

impl Question {
    /// Whether to ask now, after so long a silence.
    pub(super) fn is_due(&self, silence: Duration, now: Instant) -> bool {
        let pause = if self.unanswered { AGAIN } else { ASK_AFTER };
        let rested = |last: Instant| now.saturating_duration_since(last) >= pause;
        !self.open && silence >= ASK_AFTER && self.last.is_none_or(rested)
    }

    /// It is asked.
    pub(super) fn asked(&mut self, now: Instant) {
        (self.open, self.last) = (true, Some(now));
    }

    /// It has answered, or has not in time.
    pub(super) fn answered(&mut self, answered: bool, now: Instant) -> Meaning {
        (self.open, self.last) = (false, Some(now));
        let was_away = std::mem::replace(&mut self.unanswered, !answered);
        match (answered, was_away) {
            (false, _) => Meaning::Away,
            (true, true) => Meaning::Back,
            (true, false) => Meaning::Fine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(3600);

    #[test]
    fn a_quiet_cluster_is_asked_once_in_a_while() {
        let (mut question, start) = (Question::default(), Instant::now());
        let mut asked = 0;
        for tick in 0..600 {
            let now = start + Duration::from_millis(100) * tick;
            if question.is_due(SILENCE, now) {
                asked += 1;
                question.asked(now);
                assert!(!question.is_due(SILENCE, now + ASK_AFTER));
                assert_eq!(question.answered(true, now), Meaning::Fine);
            }
        }
        assert_eq!(asked, 4, "questions in a minute");
        assert!(!Question::default().is_due(Duration::from_secs(1), start));
    }

    #[test]
    fn one_that_does_not_answer_is_asked_again_soon() {
        let (mut question, start) = (Question::default(), Instant::now());
        question.asked(start);
        assert_eq!(question.answered(false, start + ANSWER), Meaning::Away);
        assert!(!question.is_due(SILENCE, start + ANSWER));
        let again = start + ANSWER + AGAIN;
        assert!(question.is_due(SILENCE, again));
        question.asked(again);
        assert_eq!(question.answered(true, again), Meaning::Back);
        assert!(!question.is_due(SILENCE, again + AGAIN));
    }
}
