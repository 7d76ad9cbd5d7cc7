//! `EtcdKv`: a real etcd, or our own server, as a `store::Kv`. Repeats what only reads; what may have written is never sent twice.

pub(crate) mod transport;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use store::*;
use tokio_rustls::TlsConnector;
use tonic::{Code, Status};

pub use self::transport::{Dial, Transport};
use self::watch::EtcdWatch;
use crate::{convert, errors, pb};
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use pb::watch_client::WatchClient;

/// How often a read is tried when the server is not available.
const READ_ATTEMPTS: u32 = 4;
/// Messages from the server may have any size, as for etcd's own client.
const MESSAGE_BYTES: usize = i32::MAX as usize;

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("etcd endpoint {url:?}: {reason}")]
    Endpoint { url: String, reason: String },
    #[error("etcd client certificate: {0}")]
    Certificate(#[from] pki::Error),
    #[error("etcd client certificate and key must both be given or neither")]
    HalfIdentity,
}

/// The files of `--etcd-cafile`, `--etcd-certfile`, `--etcd-keyfile`.
#[derive(Clone, Debug, Default)]
pub struct ClientTls {
    pub ca_file: PathBuf,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

impl ClientTls {
    fn connector(&self) -> Result<TlsConnector, ConnectError> {
        let authority = pki::files::read_required(&self.ca_file)?;
        let identity = match (&self.cert_file, &self.key_file) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((pki::files::read_required(cert)?, pki::files::read_required(key)?)),
            _ => return Err(ConnectError::HalfIdentity),
        };
        let identity = identity.as_ref().map(|(cert, key)| (cert.as_str(), key.as_str()));
        let mut config = pki::tls::client_config(&authority, identity)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// A store behind etcd's protocol. Cheap to clone.
#[derive(Clone)]
pub struct EtcdKv {
    transport: Transport,
}

impl EtcdKv {
    /// Takes `http://`, `https://` and `unix://` endpoints. Connects with the first request, so that the server may start later; a request that finds no
    /// endpoint for five seconds fails with `Unavailable`.
    pub fn connect(endpoints: &[String], tls: Option<&ClientTls>, tasks: &base::Tasks) -> Result<Self, ConnectError> {
        let connector = tls.map(ClientTls::connector).transpose()?;
        Ok(Self { transport: Transport::new(endpoints, connector.as_ref(), &Dial::default(), tasks)? })
    }

    fn kv(&self) -> KvClient<Transport> {
        KvClient::new(self.transport.clone()).max_decoding_message_size(MESSAGE_BYTES)
    }

    fn lease(&self) -> LeaseClient<Transport> {
        LeaseClient::new(self.transport.clone()).max_decoding_message_size(MESSAGE_BYTES)
    }

    /// Repeats a read while the server is not available, on another endpoint where there is one.
    async fn read<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, KvError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut backoff = base::Backoff::new(Duration::from_millis(20), Duration::from_secs(1)).with_jitter(0.2);
        for _ in 1..READ_ATTEMPTS {
            match call().await {
                Err(status) if is_transient(&status) => self.transport.leave_current(),
                answer => return answer.map(tonic::Response::into_inner).map_err(|status| errors::from_status(&status)),
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
        self.write(call()).await
    }

    async fn write<T>(&self, call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, KvError> {
        call.await.map(tonic::Response::into_inner).map_err(|status| {
            if is_transient(&status) {
                self.transport.leave_current();
                return KvError::Unavailable(status.message().to_owned());
            }
            errors::from_status(&status)
        })
    }
}

fn watch_client(transport: &Transport) -> WatchClient<Transport> {
    WatchClient::new(transport.clone()).max_decoding_message_size(MESSAGE_BYTES)
}

/// Whether another try, perhaps elsewhere, may succeed: the server said so, or the connection broke.
fn is_transient(status: &Status) -> bool {
    status.code() == Code::Unavailable || std::error::Error::source(status).is_some()
}

fn is_read_only(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| match op {
        Op::Range(_) => true,
        Op::Put(_) | Op::Delete(_) => false,
        Op::Txn(inner) => is_read_only(inner),
    })
}

#[async_trait::async_trait]
impl Kv for EtcdKv {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, KvError> {
        let request = convert::range_to_pb(request);
        let response = self
            .read(|| {
                let (mut client, request) = (self.kv(), request.clone());
                async move { client.range(request).await }
            })
            .await?;
        Ok(convert::range_response_from_pb(response))
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse, KvError> {
        let only_reads = is_read_only(&txn);
        let request = convert::txn_to_pb(txn);
        let response = if only_reads {
            let call = || {
                let (mut client, request) = (self.kv(), request.clone());
                async move { client.txn(request).await }
            };
            self.read(call).await?
        } else {
            self.write(self.kv().txn(request)).await?
        };
        convert::txn_response_from_pb(response)
    }

    async fn compact(&self, revision: Revision, physical: bool) -> Result<(), KvError> {
        self.write(self.kv().compact(pb::CompactionRequest { revision, physical })).await.map(|_| ())
    }

    async fn watch(&self, request: WatchRequest) -> Result<Box<dyn Watch>, KvError> {
        Ok(Box::new(EtcdWatch::open(self.transport.clone(), request).await?))
    }

    async fn lease_grant(&self, id: LeaseId, ttl: Duration) -> Result<LeaseStatus, KvError> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let ttl = i64::try_from(seconds).map_err(|_| KvError::LeaseTtlTooLarge)?;
        let granted = self.write(self.lease().lease_grant(pb::LeaseGrantRequest { ttl, id })).await?;
        let granted_ttl = from_seconds(granted.ttl);
        Ok(LeaseStatus { id: granted.id, granted_ttl, remaining_ttl: granted_ttl, keys: Vec::new() })
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<(), KvError> {
        self.write(self.lease().lease_revoke(pb::LeaseRevokeRequest { id })).await.map(|_| ())
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration, KvError> {
        // Renewing twice is renewing once.
        let call = || {
            let mut client = self.lease();
            async move {
                let once = tokio_stream::once(pb::LeaseKeepAliveRequest { id });
                let mut answers = client.lease_keep_alive(once).await?.into_inner();
                let answer = answers.message().await?;
                answer.map(tonic::Response::new).ok_or_else(|| Status::unavailable("the server ended a keep-alive without an answer"))
            }
        };
        let answer = self.read(call).await?;
        if answer.ttl <= 0 { Err(KvError::LeaseNotFound) } else { Ok(from_seconds(answer.ttl)) }
    }

    async fn lease_status(&self, id: LeaseId) -> Result<LeaseStatus, KvError> {
        let call = || {
            let mut client = self.lease();
            async move { client.lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys: true }).await }
        };
        let answer = self.read(call).await?;
        if answer.ttl < 0 && answer.granted_ttl == 0 {
            return Err(KvError::LeaseNotFound);
        }
        Ok(LeaseStatus { id, granted_ttl: from_seconds(answer.granted_ttl), remaining_ttl: from_seconds(answer.ttl), keys: answer.keys })
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, KvError> {
        let call = || {
            let mut client = self.lease();
            async move { client.lease_leases(pb::LeaseLeasesRequest {}).await }
        };
        let answer = self.read(call).await?;
        Ok(answer.leases.into_iter().map(|lease| lease.id).collect())
    }

    /// The protocol does not tell the revision of the last compaction: it stays 0.
    async fn status(&self) -> Result<StoreStatus, KvError> {
        let call = || {
            let mut client = MaintenanceClient::new(self.transport.clone());
            async move { client.status(pb::StatusRequest {}).await }
        };
        let status = self.read(call).await?;
        // A member's own status may lag behind the cluster.
        let newest = self.range(RangeRequest { count_only: true, ..RangeRequest::new(KeyRange::one("\0")) }).await?;
        let bytes = |count: i64| u64::try_from(count).unwrap_or(0);
        Ok(StoreStatus {
            revision: newest.revision,
            compact_revision: 0,
            db_size: bytes(status.db_size),
            db_size_in_use: bytes(status.db_size_in_use),
        })
    }

    async fn put(&self, request: PutRequest) -> Result<Revision, KvError> {
        let response = self.write(self.kv().put(convert::put_to_pb(request))).await?;
        Ok(convert::revision_of(&response.header))
    }

    async fn delete(&self, range: KeyRange) -> Result<(Revision, i64), KvError> {
        let request = convert::delete_to_pb(DeleteRequest { range, prev_kv: false });
        let response = self.write(self.kv().delete_range(request)).await?;
        Ok((convert::revision_of(&response.header), response.deleted))
    }
}

fn from_seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
