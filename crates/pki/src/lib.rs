//! Certificates, keys, kubeconfig files
