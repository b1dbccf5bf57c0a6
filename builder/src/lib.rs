//! Builds an image from a Dockerfile.
//!
//! ```text
//! text ─parse▶ Dockerfile ─resolve▶ Resolved ─plan▶ Plan ─solve▶ layers ─export▶ image
//!       pure               names→digests      pure       runs steps       store
//! ```
//!
//! Each step is a function in the file of its name and takes what the one before returned; nothing calls back.
//!
//! | where | what |
//! |---|---|
//! | `dockerfile/` | `parse`: a crate of its own, pure |
//! | `check.rs` | the checks of a Dockerfile, with what its base images say |
//! | `resolve.rs`, `images.rs` | global arguments, reachable stages, every base pinned |
//! | `plan/`, `graph.rs`, `exec_mount.rs` | instructions become ops and config changes |
//! | `solve.rs`, `cache_key.rs`, `ops/`, `room.rs` | every node once, cache first |
//! | `file_tree.rs`, `dockerignore.rs`, `select.rs`, `source_file.rs`, `content_digest.rs` | what COPY and ADD take |
//! | `archive.rs`, `copy.rs`, `unpack.rs`, `draft.rs`, `layer_writer.rs` | where it goes, and the layer |
//! | `survey.rs` | what a build sees of its context |
//! | `context_index.rs` | what is known of the build context, so that it is not read again |
//! | `sandbox.rs`, `rootfs.rs` | RUN's way to the runtime |
//! | `lent.rs`, `mask.rs` | the secrets and agents that it may use, and secrets in what it writes |
//! | `export.rs`, `transfer.rs` | the image in the store, and between store and registry |
//! | `image_archive/` | images in archives and directories: save, load, import |
//!
//! Invariants: a library prints nothing and reads no environment; a step's result depends on nothing that is not in its key.

#![forbid(unsafe_code)]

mod archive;
mod build;
mod cache_key;
mod check;
mod content_digest;
mod context_index;
mod copy;
mod dockerignore;
mod draft;
mod entitlements;
mod exec_mount;
mod export;
mod fetch;
mod file_tree;
mod graph;
mod image_archive;
mod images;
mod layer_writer;
mod lent;
mod mask;
mod named_context;
mod ops;
mod plan;
mod progress;
mod remote;
mod resolve;
mod room;
mod rootfs;
mod sandbox;
mod select;
mod solve;
mod source_file;
mod spanned;
mod survey;
mod transfer;
mod unpack;

pub use archive::{Bytes, Content, content};
pub use build::{Backend, BuildError, BuildRequest, Built, Failed, Findings, UnusedArg, build};
pub use check::{CheckRequest, Checked, check};
pub use content_digest::{ContentDigest, ReadError, content_digest};
pub use copy::CopyError;
pub use dockerignore::{Decision, Dockerignore, DockerignoreError};
pub use entitlements::{Entitlement, Entitlements, UnknownEntitlement};
pub use exec_mount::{
    CacheMount, ExecMount, FilesMount, MountAccess, MountedFiles, Need, SecretMount, SshMount, TmpfsMount,
};
pub use export::{Epoch, EpochError, ExportError, PlannedEntry, PlannedImage};
pub use fetch::NetworkFiles;
pub use file_tree::{FileEntry, FileTree, Owners};
pub use graph::{
    Archives, Copy, CopyFrom, CopySource, Exec, FileAction, Graph, Ground, HostEntry, InlineFile, Node, NodeId, Op,
    Parents, RunNetwork, RunSecurity, Source, TreeName,
};
pub use image_archive::{
    ArchivedImage, ImageArchive, ImageArchiveError, ImageLayout, Import, ImportError, LayoutName, LoadError,
    LoadedImage, LoadedName, SaveError, SaveFormat, SaveTo, SavedImage, import, load, save,
};
pub use images::{BaseImage, ImageError, ImagePlace, ImageSource, Pull, RegistryImages};
pub use lent::{Lent, Secret};
pub use named_context::{NamedContext, NamedContexts};
pub use ops::StepError;
pub use plan::{ChangeError, Plan, PlanError, PlanOptions, PlanProblem, change_config, plan};
pub use progress::{Event, Progress};
pub use remote::{Pin, Pinned, Remote, RemoteError, RemoteFiles};
pub use resolve::{
    Base, Origin, ResolveError, ResolveOptions, ResolveProblem, Resolved, ResolvedInstruction, ResolvedStage,
    build_arguments, resolve, target_index,
};
pub use rootfs::WriteError;
pub use sandbox::{
    Connection, ContainerSandbox, Ended, HostFiles, Lending, STEP_PIDS, Sandbox, SandboxError, generated_files,
    make_working_directory,
};
pub use select::{SelectError, SelectOptions, Selected, Selection, select};
pub use solve::{Cache, SolveError};
pub use spanned::Spanned;
pub use survey::{LeftOut, Survey, SurveyError, survey};
pub use transfer::{Pulled, Transfer, TransferError, TransferProgress};
