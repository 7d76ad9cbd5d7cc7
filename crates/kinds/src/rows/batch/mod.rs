//! The group batch.

mod cron_job;
mod job;
mod schedule;

use crate::row::{Row, TypedRow};

pub(super) static ROWS: &[&dyn Row] = &[&TypedRow::<api::batch::v1::CronJob>::new(), &TypedRow::<api::batch::v1::Job>::new()];
