//! The bell: tokio-cron-scheduler rings it, the planner decides what is due.
//!
//! One `Cron` job and nothing else. Its `Repeated` jobs may never fire again once delayed past their interval, and it polls, so a
//! job per token would cost for nothing. If it ever fell silent, the loop's own timer (at most 30 s) goes on without it.

use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use super::wake::{Wake, Waker};

/// A running bell; dropping it lets it fall silent with the runtime.
pub struct Bell {
    _scheduler: JobScheduler,
}

/// Starts the bell on a cron expression with seconds, in UTC.
///
/// # Errors
/// When the expression is not one, which the configuration has excluded.
pub async fn ring(expression: &str, waker: Waker) -> Result<Bell, JobSchedulerError> {
    let scheduler = JobScheduler::new().await?;
    let job = Job::new(expression, move |_id, _scheduler| {
        // A queue that is full is a loop that is awake.
        drop(waker.try_send(Wake::Tick));
    })?;
    scheduler.add(job).await?;
    scheduler.start().await?;
    Ok(Bell { _scheduler: scheduler })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_rings() {
        let (waker, mut wakes) = tokio::sync::mpsc::channel(4);
        let _bell = ring("* * * * * *", waker).await.unwrap();
        let rung = tokio::time::timeout(std::time::Duration::from_secs(5), wakes.recv()).await;
        assert!(matches!(rung, Ok(Some(Wake::Tick))), "{rung:?}");
    }
}
