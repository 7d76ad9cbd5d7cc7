//! CertificateSigningRequest.

use api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestStatus};
use api::{FieldErrors, Path};
use serde_json::{Value, json};

use crate::kind::{Column, Kind, KindInfo, NameRule, Scope, Subresource};
use crate::printing::{AGE, NAME, NONE, age, column, human_duration, name};
use crate::validation::{immutable, shown};

impl Kind for CertificateSigningRequest {
    const INFO: KindInfo = KindInfo {
        singular: "certificatesigningrequest",
        short_names: &["csr"],
        scope: Scope::Cluster,
        subresources: &[Subresource { name: "approval", kind: None, verbs: &["get", "patch", "update"] }, Subresource::STATUS],
        schema: "io.k8s.api.certificates.v1.CertificateSigningRequest",
        name_rule: NameRule::PathSegment,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        self.status.get_or_insert_default();
    }

    /// The user's name and groups are filled in by the API server, which knows them.
    fn prepare_create(&mut self) {
        self.status = Some(CertificateSigningRequestStatus::default());
    }

    fn prepare_update(&mut self, old: &Self) {
        self.spec = old.spec.clone();
        self.status = old.status.clone();
    }

    /// Approvals come through their own subresource.
    fn prepare_status_update(&mut self, old: &Self) {
        self.spec = old.spec.clone();
        let mut status = self.status.take().unwrap_or_default();
        merge_decisions(&mut status, old.status.as_ref());
        self.status = Some(status);
    }

    fn prepare_part(&mut self, part: &str, old: &Self) {
        if part == "approval" {
            let sent = self.status.take().and_then(|status| status.conditions);
            self.spec = old.spec.clone();
            self.status = Some(CertificateSigningRequestStatus { conditions: sent, ..old.status.clone().unwrap_or_default() });
        }
    }

    fn validate(&self, errors: &mut FieldErrors) {
        let path = Path::new("spec");
        signer_name(errors, &path.child("signerName"), &self.spec.signer_name);
        let request = String::from_utf8_lossy(&self.spec.request.0);
        if !request.contains("-----BEGIN CERTIFICATE REQUEST-----") {
            let value = Value::String("<request>".into());
            errors.invalid(&path.child("request"), &value, "PEM block type must be CERTIFICATE REQUEST");
        }
        let usages = self.spec.usages.as_deref().unwrap_or_default();
        if usages.is_empty() {
            errors.required(&path.child("usages"), "usages must contain at least one item");
        }
        for (index, usage) in usages.iter().enumerate() {
            if !USAGES.contains(&usage.as_str()) {
                errors.not_supported(&path.child("usages").index(index), usage, USAGES);
            } else if usages.iter().take(index).any(|other| other == usage) {
                errors.duplicate(&path.child("usages").index(index), usage);
            }
        }
        if let Some(seconds) = self.spec.expiration_seconds.filter(|seconds| *seconds < 600) {
            errors.invalid(&path.child("expirationSeconds"), seconds, "may not specify a duration less than 600 seconds (10 minutes)");
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        immutable(errors, &Path::new("spec"), &self.spec, &old.spec);
    }

    fn validate_status_update(&self, old: &Self, errors: &mut FieldErrors) {
        let certificate = |csr: &Self| csr.status.as_ref().and_then(|status| status.certificate.clone());
        if certificate(old).is_some() && certificate(self) != certificate(old) {
            let value = shown(&"<certificate>");
            errors.invalid(&Path::new("status").child("certificate"), &value, "updates may not set certificate content if already set");
        }
    }

    fn validate_part(&self, part: &str, _old: &Self, errors: &mut FieldErrors) {
        let conditions = self.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let has = |type_: &str| conditions.iter().any(|condition| condition.type_ == type_);
        if part == "approval" && has("Approved") && has("Denied") {
            let path = Path::new("status").child("conditions");
            errors.invalid(&path, &shown(&"Denied"), "Approved and Denied conditions are mutually exclusive");
        }
    }

    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        vec![("spec.signerName", self.spec.signer_name.clone())]
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                NAME,
                AGE,
                column("SignerName", "string"),
                column("Requestor", "string"),
                column("RequestedDuration", "string"),
                column("Condition", "string"),
            ]
        }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let duration = self.spec.expiration_seconds.map_or_else(|| NONE.to_owned(), |seconds| human_duration(i64::from(seconds)));
        let signer = Some(self.spec.signer_name.as_str()).filter(|name| !name.is_empty()).unwrap_or(NONE);
        vec![
            name(&self.metadata),
            age(&self.metadata, now),
            json!(signer),
            json!(self.spec.username.as_deref().unwrap_or_default()),
            json!(duration),
            json!(state(self)),
        ]
    }
}

/// Approvals and denials of `from`, everything else of `status`.
fn merge_decisions(status: &mut CertificateSigningRequestStatus, from: Option<&CertificateSigningRequestStatus>) {
    let mut conditions = status.conditions.take().unwrap_or_default();
    conditions.retain(|condition| !is_decision(&condition.type_));
    let decisions = from.iter().flat_map(|from| from.conditions.iter().flatten());
    conditions.extend(decisions.filter(|condition| is_decision(&condition.type_)).cloned());
    status.conditions = Some(conditions).filter(|conditions| !conditions.is_empty());
}

fn is_decision(type_: &str) -> bool {
    matches!(type_, "Approved" | "Denied")
}

fn signer_name(errors: &mut FieldErrors, path: &Path, signer: &str) {
    if signer.is_empty() {
        errors.required(path, "");
        return;
    }
    let Some((domain, rest)) = signer.split_once('/') else {
        errors.invalid(path, signer, "must be a fully qualified domain and path of the form 'example.com/signer-name'");
        return;
    };
    crate::validation::each(errors, path, domain, api::names::dns_subdomain(domain));
    if domain.split('.').count() < 2 {
        errors.invalid(path, domain, "should be a domain with at least two segments separated by dots");
    }
    if rest.is_empty() {
        errors.invalid(path, signer, "must be a fully qualified domain and path of the form 'example.com/signer-name'");
    }
}

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

fn state(csr: &CertificateSigningRequest) -> String {
    let status = csr.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let has = |type_: &str| conditions.iter().any(|condition| condition.type_ == type_);
    let mut words = vec![match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    }];
    if has("Failed") {
        words.push("Failed");
    }
    if status.certificate.is_some_and(|certificate| !certificate.0.is_empty()) {
        words.push("Issued");
    }
    words.join(",")
}
