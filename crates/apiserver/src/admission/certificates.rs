//! CertificateApproval, CertificateSigning, ClusterTrustBundleAttest, CertificateSubjectRestriction, and who asks for a certificate
//! (plugin/pkg/admission/certificates, pkg/registry/certificates/certificates/strategy.go).

use std::sync::Arc;

use api::StatusError;
use api::certificates::v1::CertificateSigningRequest;
use async_trait::async_trait;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::{AdmissionRequest, Operation, Plugin, forbid};
use crate::auth::{Attributes, Authorizer, Decision};

const GROUP: &str = "certificates.k8s.io";

/// Common name and organizations of a PEM request.
pub fn subject(request: &[u8]) -> Result<(String, Vec<String>), String> {
    let der = CertificateSigningRequestDer::from_pem_slice(request).map_err(|e| e.to_string())?;
    let (_, parsed) = X509CertificationRequest::from_der(&der).map_err(|e| e.to_string())?;
    let subject = &parsed.certification_request_info.subject;
    let name = subject.iter_common_name().next().and_then(|a| a.as_str().ok()).unwrap_or_default().to_owned();
    Ok((name, subject.iter_organization().filter_map(|a| a.as_str().ok()).map(str::to_owned).collect()))
}

/// Whether the user may do `verb` with a signer, by its name or by `DOMAIN/*`.
async fn may(authorizer: &dyn Authorizer, request: &AdmissionRequest<'_>, verb: &str, signer: &str) -> bool {
    let wildcard = format!("{}/*", signer.split_once('/').map_or(signer, |(domain, _)| domain));
    for name in [signer, &wildcard] {
        let asked = Attributes {
            user: request.user,
            verb,
            is_resource: true,
            group: GROUP,
            version: "*",
            resource: "signers",
            subresource: "",
            namespace: "",
            name,
            path: "",
            field_selector: "",
            label_selector: "",
        };
        if authorizer.authorize(&asked).await == Decision::Allow {
            return true;
        }
    }
    false
}

macro_rules! with_authorizer {
    ($($name:ident),*) => { $(
        pub struct $name {
            authorizer: Arc<dyn Authorizer>,
        }

        impl $name {
            pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
                Self { authorizer }
            }
        }
    )* };
}
with_authorizer!(CertificateApproval, CertificateSigning, ClusterTrustBundleAttest);

fn is_request(request: &AdmissionRequest<'_>, operation: Operation, subresource: &str) -> bool {
    request.operation == operation
        && request.info.group == GROUP
        && request.info.resource == "certificatesigningrequests"
        && request.subresource == subresource
}

#[async_trait]
impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        if !is_request(request, Operation::Update, "approval") {
            return Ok(());
        }
        let Some(csr) = request.old::<CertificateSigningRequest>() else { return Ok(()) };
        let signer = &csr.spec.signer_name;
        if may(self.authorizer.as_ref(), request, "approve", signer).await {
            return Ok(());
        }
        Err(forbid(request, format!("user not permitted to approve requests with signerName {signer:?}")))
    }
}

#[async_trait]
impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        if !is_request(request, Operation::Update, "status") {
            return Ok(());
        }
        let (Some(old), Some(new)) = (request.old::<CertificateSigningRequest>(), request.get::<CertificateSigningRequest>()) else {
            return Ok(());
        };
        let of = |csr: &CertificateSigningRequest| {
            let status = csr.status.clone().unwrap_or_default();
            (status.certificate, status.conditions.unwrap_or_default())
        };
        let signer = &old.spec.signer_name;
        if of(old) == of(new) || may(self.authorizer.as_ref(), request, "sign", signer).await {
            return Ok(());
        }
        Err(forbid(request, format!("user not permitted to sign requests with signerName {signer:?}")))
    }
}

#[async_trait]
impl Plugin for ClusterTrustBundleAttest {
    fn name(&self) -> &'static str {
        "ClusterTrustBundleAttest"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || !request.is(GROUP, "clustertrustbundles") {
            return Ok(());
        }
        let value = |object: Option<&dyn kinds::Object>| object.map(kinds::Object::to_value).unwrap_or_default();
        let (new, old) = (value(request.object.as_deref()), value(request.old));
        let signer = new["spec"]["signerName"].as_str().unwrap_or_default();
        if signer.is_empty() || new["spec"] == old["spec"] || may(self.authorizer.as_ref(), request, "attest", signer).await {
            return Ok(());
        }
        Err(forbid(request, format!("user not permitted to attest for signerName {signer:?}")))
    }
}

pub struct CertificateSubjectRestriction;

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        if !is_request(request, Operation::Create, "") {
            return Ok(());
        }
        let Some(csr) = request.get::<CertificateSigningRequest>() else { return Ok(()) };
        if csr.spec.signer_name != "kubernetes.io/kube-apiserver-client" {
            return Ok(());
        }
        match subject(&csr.spec.request.0) {
            Err(cause) => Err(forbid(request, format!("failed to parse CSR: {cause}"))),
            Ok((_, groups)) if groups.iter().any(|g| g == "system:masters") => {
                Err(forbid(request, "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"))
            }
            Ok(_) => Ok(()),
        }
    }
}

/// Writes who asks into a new CertificateSigningRequest. Always on: approvers rely on it.
pub struct Requester;

#[async_trait]
impl Plugin for Requester {
    fn name(&self) -> &'static str {
        "CertificateSigningRequestRequester"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        if !is_request(request, Operation::Create, "") {
            return Ok(());
        }
        let user = request.user;
        let Some(csr) = request.get_mut::<CertificateSigningRequest>() else { return Ok(()) };
        csr.spec.username = Some(user.name.clone());
        csr.spec.uid = Some(user.uid.clone()).filter(|uid| !uid.is_empty());
        csr.spec.groups = Some(user.groups.clone());
        csr.spec.extra = Some(user.extra.clone()).filter(|extra| !extra.is_empty());
        Ok(())
    }
}
