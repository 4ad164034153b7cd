//! What is said of an object where its owner looks, as a Kubernetes Event: facts in, a short queue for the source that
//! has an API server to write to. Saying something never waits and never fails; the log has it all anyway.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::Problem;
use crate::{
    desired::Finding,
    model::{Kind, ObjectId, ObjectName},
};

/// So many at once, and then one each [`REFILL`]: a node with thousands of bad objects must not keep the API server busy.
const BURST: u32 = 25;
/// See [`BURST`].
const REFILL: Duration = Duration::from_secs(30);
/// What may wait for an API server that is away.
const WAITING: usize = BURST as usize;
/// The API server takes at most 1,024 characters of note (`events.k8s.io/v1`, Event.note).
const NOTE: usize = 1000;

/// What is wrong with it is told as kube-proxy tells it.
pub const HEALTH_CHECK_FIELD: &str = "spec.healthCheckNodePort";

/// Something to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// About which object.
    pub about: ObjectId,
    /// Path of the field in it; empty when it is about the object as a whole.
    pub field: String,
    /// Whether somebody should do something.
    pub is_warning: bool,
    /// One word for it, in the way of Events: what happened.
    pub reason: &'static str,
    /// One word for what was done or tried.
    pub action: &'static str,
    /// In sentences.
    pub note: String,
}

impl News {
    /// As kube-proxy says it of its node, in the same words.
    #[must_use]
    pub fn starting(node: &str) -> Self {
        Self {
            about: ObjectId {
                kind: Kind::Node,
                name: ObjectName::new("", node),
            },
            field: String::new(),
            is_warning: false,
            reason: "Starting",
            action: "StartMeshAgent",
            note: String::new(),
        }
    }

    /// An object cannot be used as its owner wrote it; None of what is no object.
    #[must_use]
    pub fn problem(problem: &Problem) -> Option<Self> {
        problem.about.as_ref().map(|about| {
            let field = problem.field.as_deref().unwrap_or_default();
            Self::not_served(about, field, &problem.reason, &problem.fix)
        })
    }

    /// A Service is not served as its owner wrote it.
    #[must_use]
    pub fn finding(finding: &Finding) -> Self {
        let field = &finding.field;
        let news = Self::not_served(&finding.object, field, &finding.reason, &finding.fix);
        if field != HEALTH_CHECK_FIELD {
            return news;
        }
        Self {
            reason: "FailedToStartServiceHealthcheck",
            action: "Listen",
            ..news
        }
    }

    fn not_served(about: &ObjectId, field: &str, reason: &str, fix: &str) -> Self {
        let note = format!("{reason}; {fix}");
        Self {
            about: about.clone(),
            field: field.to_owned(),
            is_warning: true,
            reason: "NotServedAsWritten",
            action: "ProgramService",
            note: note.chars().take(NOTE).collect(),
        }
    }
}

/// Where news are read.
pub type Queue = mpsc::Receiver<News>;

/// Says them, up to a rate.
#[derive(Debug)]
pub struct Herald {
    queue: Option<mpsc::Sender<News>>,
    bucket: Bucket,
}

impl Herald {
    /// One who is heard, and by whom.
    #[must_use]
    pub fn heard() -> (Self, Queue) {
        let (sender, queue) = mpsc::channel(WAITING);
        let herald = Self {
            queue: Some(sender),
            bucket: Bucket::full(Instant::now()),
        };
        (herald, queue)
    }

    /// Without an API server there is nobody to tell.
    #[must_use]
    pub fn unheard() -> Self {
        Self {
            queue: None,
            bucket: Bucket::full(Instant::now()),
        }
    }

    /// Says it, unless too much was said lately.
    pub fn say(&mut self, news: News) {
        let Some(queue) = &self.queue else {
            return;
        };
        if !self.bucket.take(Instant::now()) || queue.try_send(news).is_err() {
            tracing::debug!("an Event is left out: too many lately");
        }
    }
}

/// Fills up as time goes by.
#[derive(Debug)]
struct Bucket {
    left: u32,
    since: Instant,
}

impl Bucket {
    fn full(now: Instant) -> Self {
        Self {
            left: BURST,
            since: now,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        while self.left < BURST && now.saturating_duration_since(self.since) >= REFILL {
            self.left += 1;
            self.since += REFILL;
        }
        if self.left == BURST {
            self.since = now;
        }
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Weight;

    #[test]
    fn a_flood_is_let_through_at_a_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        let said = |bucket: &mut Bucket, now| (0..1000).filter(|_| bucket.take(now)).count();
        assert_eq!(said(&mut bucket, start), 25);
        assert_eq!(said(&mut bucket, start + REFILL / 2), 0);
        assert_eq!(said(&mut bucket, start + REFILL * 3), 3);
        assert_eq!(said(&mut bucket, start + REFILL * 1000), 25);
    }

    #[test]
    fn what_is_not_heard_waits_for_nobody() {
        let (mut herald, mut queue) = Herald::heard();
        for _ in 0..1000 {
            herald.say(News::starting("one"));
        }
        let mut heard = 0;
        while queue.try_recv().is_ok() {
            heard += 1;
        }
        assert_eq!(heard, 25);
        Herald::unheard().say(News::starting("one"));
    }

    #[test]
    fn a_note_is_no_longer_than_the_server_takes() {
        let finding = Finding {
            object: News::starting("one").about,
            field: "spec".to_owned(),
            reason: "ü".repeat(5000),
            fix: String::new(),
            weight: Weight::Problem,
        };
        assert_eq!(News::finding(&finding).note.chars().count(), NOTE);
    }
}
