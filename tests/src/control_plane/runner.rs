//! Runs requests to their end for callers that block, on a thread in the right network namespace.

use std::path::PathBuf;

use anyhow::{Context, Result};
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{lab::netns, place::Place};

/// How many requests of one call are under way at a time.
const AT_A_TIME: usize = 64;

/// Where requests run.
#[derive(Debug)]
pub(super) struct Runner {
    runtime: Runtime,
    netns: Option<PathBuf>,
}

impl Runner {
    pub(super) fn new(place: Option<&Place>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            runtime,
            netns: place.map(|place| place.netns().to_owned()),
        })
    }

    /// Runs one to its end. A connection belongs to the namespace in which it was made, whoever uses it later.
    pub(super) fn run<T: Send>(&self, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        match &self.netns {
            Some(netns) => netns::within(netns, || self.runtime.block_on(work)),
            None => self.runtime.block_on(work),
        }
    }

    /// Runs one for each item, some at a time. The results are in the order of the items.
    pub(super) fn each<W, T, F>(
        &self,
        items: Vec<W>,
        task: impl Fn(W) -> F + Send,
    ) -> Result<Vec<T>>
    where
        W: Send,
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.run(async move {
            let mut results: Vec<Option<T>> = items.iter().map(|_| None).collect();
            let mut items = items.into_iter().enumerate();
            let mut tasks = JoinSet::new();
            loop {
                while tasks.len() < AT_A_TIME
                    && let Some((index, item)) = items.next()
                {
                    let task = task(item);
                    tasks.spawn(async move { (index, task.await) });
                }
                let Some(done) = tasks.join_next().await else {
                    break;
                };
                let (index, result) = done?;
                results[index] = Some(result?);
            }
            results
                .into_iter()
                .map(|result| result.context("every task ends"))
                .collect()
        })
    }
}
