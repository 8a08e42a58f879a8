//! How a module came to this node, so that what to do about a wrong file fits.

use portcullis_engine::CompileError;

use super::prepare_error::PrepareError;

/// How a module came to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayIn {
    /// From a registry, by the operator and the bus.
    Registry,
    /// A file beside its rule, stand-alone.
    Folder,
    /// Sent to the admin API.
    Upload,
}

impl WayIn {
    /// Why a module does not run here, and what to do about it.
    pub fn explain(self, error: &PrepareError) -> String {
        let PrepareError::Compile(CompileError::NotWasm { .. }) = error else { return error.to_string() };
        let remedy = match self {
            Self::Registry => "push the .wasm file that the build wrote",
            Self::Folder => "let source.file name the .wasm file that the build wrote",
            Self::Upload => "send the .wasm file that the build wrote",
        };
        format!("{error}; {remedy}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_about_a_wrong_file_fits_the_way_it_came() {
        let error = PrepareError::Compile(CompileError::NotWasm { found: "a script".into() });
        for (way_in, remedy) in [
            (WayIn::Registry, "; push the"),
            (WayIn::Folder, "; let source.file"),
            (WayIn::Upload, "; send the"),
        ] {
            let text = way_in.explain(&error);
            assert!(text.contains("found a script") && text.contains(remedy), "{text}");
        }
        let other = PrepareError::Compile(CompileError::Component);
        assert_eq!(WayIn::Upload.explain(&other), other.to_string());
    }
}
