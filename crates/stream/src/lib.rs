//! The upgrade protocols of exec, attach, port-forward
