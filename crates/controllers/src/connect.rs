//! The clients of a controller manager that runs as its own process: one connection's settings, and with `--use-service-account-credentials` a service
//! account's token per controller (staging/src/k8s.io/controller-manager/pkg/clientbuilder).

use std::path::Path;
use std::sync::Arc;

use api::authentication::v1::{TokenRequest, TokenRequestSpec};
use api::core::v1::ServiceAccount;
use api::meta::v1::ObjectMeta;
use client::{Client, ConnectError};
use http::{HeaderValue, Request, header};
use jiff::Timestamp;
use kube::api::PostParams;
use kube::client::Body;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Api, Config};
use tokio::sync::Mutex;
use tower::BoxError;

use crate::context::Clients;
use crate::options::Options;

const NAMESPACE: &str = "kube-system";
const AGENT: &str = "kube-controller-manager";
/// Asked for; the server may give less.
const TOKEN_SECONDS: i64 = 3600;

/// Connects as the flags say. `--kubeconfig` is needed.
pub async fn connect(options: &Options) -> Result<Clients, ConnectError> {
    let path = options.kubeconfig.as_deref().unwrap_or(Path::new(""));
    let named = |cause| ConnectError::Kubeconfig { path: path.display().to_string(), cause };
    let kubeconfig = Kubeconfig::read_from(path).map_err(named)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(named)?;
    let qps = (options.kube_api_qps > 0.0).then_some(options.kube_api_qps);
    let root = client::from_config(config.clone(), AGENT, qps)?;
    if !options.use_service_account_credentials {
        return Ok(Clients::shared(root));
    }
    let mut without_user = config;
    without_user.auth_info = AuthInfo::default();
    let anonymous = client::from_config(without_user, AGENT, qps)?;
    let accounts = root.clone();
    Ok(Clients::per_controller(root, move |account| {
        let source = Arc::new(Tokens { accounts: accounts.clone(), account: account.to_owned(), current: Mutex::new(None) });
        with_tokens(anonymous.clone(), source)
    }))
}

/// Adds a current token to every request.
fn with_tokens(transport: Client, source: Arc<Tokens>) -> Client {
    let service = tower::service_fn(move |mut request: Request<Body>| {
        let (transport, source) = (transport.clone(), source.clone());
        async move {
            let token = source.get().await?;
            request.headers_mut().insert(header::AUTHORIZATION, token);
            transport.send(request).await.map_err(BoxError::from)
        }
    });
    Client::new(service, "default")
}

struct Tokens {
    accounts: Client,
    account: String,
    /// The header's value and when to renew it.
    current: Mutex<Option<(HeaderValue, Timestamp)>>,
}

impl Tokens {
    async fn get(&self) -> Result<HeaderValue, BoxError> {
        let now = base::clock::now();
        // Held over the request on purpose: one renewal serves all that wait.
        let mut current = self.current.lock().await;
        if let Some((token, renew_at)) = &*current
            && now < *renew_at
        {
            return Ok(token.clone());
        }
        let accounts = Api::<ServiceAccount>::namespaced(self.accounts.clone(), NAMESPACE);
        let spec = TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
        let wanted = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let status = match accounts.create_token_request(&self.account, &PostParams::default(), &wanted).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                self.make_account(&accounts).await?;
                accounts.create_token_request(&self.account, &PostParams::default(), &wanted).await?.status
            }
            other => other?.status,
        };
        let status = status.ok_or_else(|| format!("the token of {NAMESPACE}/{} came without a status", self.account))?;
        let (Some(token), Some(expires)) = (status.token, status.expiration_timestamp) else {
            return Err(format!("the API server gave no token for {NAMESPACE}/{}", self.account).into());
        };
        let mut header = HeaderValue::from_str(&format!("Bearer {token}"))?;
        header.set_sensitive(true);
        let seconds = (expires.0.as_second() - now.as_second()).max(0);
        // After four fifths of its life.
        let renew_at = Timestamp::from_second(now.as_second() + seconds * 4 / 5).unwrap_or(now);
        *current = Some((header.clone(), renew_at));
        Ok(header)
    }

    async fn make_account(&self, accounts: &Api<ServiceAccount>) -> Result<(), kube::Error> {
        let metadata = ObjectMeta { name: Some(self.account.clone()), namespace: Some(NAMESPACE.into()), ..ObjectMeta::default() };
        match accounts.create(&PostParams::default(), &ServiceAccount { metadata, ..ServiceAccount::default() }).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            other => other.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use client::script::{Script, config_map, status};

    use super::*;

    #[tokio::test]
    async fn tokens_are_made_used_and_kept() {
        let account = config_map("replicaset-controller", 1).to_string();
        let token =
            serde_json::json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "spec": {"audiences": []},
            "status": {"token": "secret", "expirationTimestamp": "2999-01-01T00:00:00Z"}})
            .to_string();
        let script = Script::new([status(404, "NotFound").to_string(), account.replace("ConfigMap", "ServiceAccount"), token]);
        script.code(0, 404);
        let tokens = Tokens { accounts: script.client(), account: "replicaset-controller".into(), current: Mutex::new(None) };
        assert_eq!(tokens.get().await.expect("a token"), "Bearer secret");
        assert_eq!(tokens.get().await.expect("a token"), "Bearer secret");
        let requests = script.requests();
        assert_eq!(requests.len(), 3, "{requests:?}");
        assert!(requests[1].starts_with("POST /api/v1/namespaces/kube-system/serviceaccounts"), "{requests:?}");
    }
}
