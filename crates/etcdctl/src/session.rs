//! What locks and elections are made of (client/v3/concurrency): a lease that is kept alive, a key under it, and waiting for those who came before. Prints
//! nothing.

use etcd::pb::{self, WatchCreateRequest, compare, range_request, request_op, response_op};
use tokio::sync::watch;

use crate::connection::Channel;
use crate::exit::{Failure, Outcome};
use crate::follow::{Follow, is_passing};
use crate::{Ctl, keys, kv, lease};

pub struct Session {
    pub channel: Channel,
    pub lease: i64,
    /// Turns true when the lease is lost.
    lost: watch::Receiver<bool>,
}

impl Session {
    /// Until the process ends, the lease lives.
    pub async fn open(ctl: &Ctl, ttl: i64) -> Outcome<Self> {
        let channel = ctl.connect().await?;
        let granted = ctl.within(channel.lease().lease_grant(pb::LeaseGrantRequest { ttl, id: 0 })).await?;
        let (sender, lost) = watch::channel(false);
        let (keeper, id, ttl) = (channel.clone(), granted.id, granted.ttl);
        ctl.tasks.spawn("keep a lease alive", async move {
            keep(&keeper, id, ttl).await;
            // Nobody may wait any more.
            let _ = sender.send(true);
        });
        Ok(Self { channel, lease: granted.id, lost })
    }

    /// Returns when the lease is lost.
    pub async fn expired(&self) {
        let mut lost = self.lost.clone();
        // The keeper says so before it ends, and it ends only then.
        let _ = lost.wait_for(|lost| *lost).await;
    }

    /// The key of this session under `prefix`, made with `value` unless it is there; its creation revision, and the value that it had.
    pub async fn enter(&self, ctl: &Ctl, prefix: &str, value: &str) -> Outcome<Entry> {
        let key = format!("{prefix}{:x}", self.lease);
        let absent = pb::Compare {
            result: compare::CompareResult::Equal.into(),
            target: compare::CompareTarget::Create.into(),
            key: key.clone().into(),
            target_union: Some(compare::TargetUnion::CreateRevision(0)),
            ..Default::default()
        };
        let put = pb::PutRequest { key: key.clone().into(), value: value.to_owned().into(), lease: self.lease, ..Default::default() };
        let get = pb::RangeRequest { key: key.clone().into(), ..Default::default() };
        let op = |request| pb::RequestOp { request: Some(request) };
        let request = pb::TxnRequest {
            compare: vec![absent],
            success: vec![op(request_op::Request::RequestPut(put))],
            failure: vec![op(request_op::Request::RequestRange(get))],
        };
        let answer = ctl.within(self.channel.kv().txn(request)).await?;
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        let created = match answer.responses.into_iter().next().and_then(|response| response.response) {
            Some(response_op::Response::ResponseRange(range)) => range.kvs.first().map_or(revision, |pair| pair.create_revision),
            _ => revision,
        };
        Ok(Entry { key, created })
    }

    /// Waits until no key under `prefix` is older than `created`. Returns the header's revision of the last look.
    pub async fn wait_for_turn(&self, ctl: &Ctl, prefix: &str, created: i64) -> Outcome<i64> {
        loop {
            let request = pb::RangeRequest {
                key: prefix.to_owned().into(),
                range_end: keys::prefix_end(prefix.as_bytes()).into(),
                max_create_revision: created - 1,
                limit: 1,
                sort_order: range_request::SortOrder::Descend.into(),
                sort_target: range_request::SortTarget::Create.into(),
                ..Default::default()
            };
            let answer = kv::range(ctl, &self.channel, request).await?;
            let revision = answer.header.as_ref().map_or(0, |header| header.revision);
            let Some(before) = answer.kvs.into_iter().next() else { return Ok(revision) };
            let request = WatchCreateRequest { key: before.key, start_revision: revision + 1, ..Default::default() };
            wait_for_delete(self.channel.clone(), request).await?;
        }
    }

    /// Gives up the key, unless it is another's by now.
    pub async fn leave(&self, ctl: &Ctl, key: &str, created: i64) -> Outcome {
        let own = pb::Compare {
            result: compare::CompareResult::Equal.into(),
            target: compare::CompareTarget::Create.into(),
            key: key.to_owned().into(),
            target_union: Some(compare::TargetUnion::CreateRevision(created)),
            ..Default::default()
        };
        let delete = pb::DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() };
        let delete = pb::RequestOp { request: Some(request_op::Request::RequestDeleteRange(delete)) };
        ctl.within(self.channel.kv().txn(pb::TxnRequest { compare: vec![own], success: vec![delete], failure: Vec::new() })).await?;
        Ok(())
    }

    /// The lease is of no use any more.
    pub async fn end(&self, ctl: &Ctl) -> Outcome {
        ctl.within(self.channel.lease().lease_revoke(pb::LeaseRevokeRequest { id: self.lease })).await.map(|_| ())
    }
}

pub struct Entry {
    pub key: String,
    pub created: i64,
}

/// Returns when the lease is gone, or when it must be taken to be.
async fn keep(channel: &Channel, id: i64, ttl_s: i64) {
    let life = std::time::Duration::from_secs(u64::try_from(ttl_s).unwrap_or(1));
    let mut renewed = base::clock::monotonic();
    loop {
        tokio::time::sleep(lease::third(ttl_s)).await;
        match tokio::time::timeout(life, lease::renew(channel, id)).await {
            Ok(Ok(answer)) if answer.get_ref().ttl <= 0 => return,
            Ok(Ok(_)) => renewed = base::clock::monotonic(),
            Ok(Err(status)) if !is_passing(&status) => return,
            Ok(Err(_)) | Err(_) if renewed.elapsed() >= life => return,
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

async fn wait_for_delete(channel: Channel, request: WatchCreateRequest) -> Outcome {
    let mut follow = Follow::new(channel, request);
    loop {
        let answer = follow.next().await?;
        if answer.canceled {
            return Err(Failure::error(crate::follow::cancel_text(&answer)));
        }
        if answer.events.iter().any(|event| event.r#type() == pb::mvccpb::event::EventType::Delete) {
            return Ok(());
        }
    }
}

/// Returns at SIGINT or SIGTERM.
pub async fn interrupted() -> Outcome {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|error| Failure::error(format!("listening for signals: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
