//! `SIGUSR1` to a tracer of running processes: what it believes at this moment, in a file, while
//! the trace goes on. (A program under `run` gets that signal itself.)

use std::path::PathBuf;

use tokio::signal::unix::{Signal, SignalKind};

use super::collector::Collector;
use super::listen;
use crate::error::{Error, Result};
use crate::output;

/// Where checkpoints go, and who asks for them.
#[derive(Default)]
pub struct Checkpoints {
    asked: Option<Signal>,
    base: PathBuf,
    written: u32,
}

impl Checkpoints {
    /// Listens; files are `BASE.checkpoint-N.json`, N from 1.
    pub fn listen(base: PathBuf) -> Result<Self> {
        Ok(Checkpoints {
            asked: Some(listen(SignalKind::user_defined1())?),
            base,
            written: 0,
        })
    }

    /// Ends when one is asked for; never when nobody listens.
    pub async fn asked(&mut self) {
        match &mut self.asked {
            Some(signal) => {
                signal.recv().await;
            }
            None => std::future::pending().await,
        }
    }

    /// Writes one. A failure is told and ends nothing.
    pub fn write(&mut self, collector: &Collector) {
        self.written += 1;
        let mut path = self.base.clone().into_os_string();
        path.push(format!(".checkpoint-{}.json", self.written));
        let written = collector
            .checkpoint()
            .map_err(|e| Error::failed("cannot make a checkpoint", e, "ask again"))
            .and_then(|json| {
                output::write_file(path.as_ref(), true, |out| out.write_all(json.as_bytes()))
            });
        if let Err(error) = written {
            eprintln!("{error}");
        }
    }
}
