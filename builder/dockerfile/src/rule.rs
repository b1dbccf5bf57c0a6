//! The lint rules: docker's names, and what each says.
//!
//! A warning of a rule can be switched off by its name, for a file with `# check=skip=…` at its top. Warnings without a rule
//! cannot.
//!
//! Spec: Dockerfile reference, "Build checks".

use std::fmt;

macro_rules! rules {
    ($($name:ident: $description:literal;)+) => {
        /// A lint rule of docker.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $(#[doc = $description] $name,)+
        }

        impl Rule {
            /// All rules.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Returns the name, as docker writes it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// Returns what the rule asks for, in one sentence.
            pub fn description(self) -> &'static str {
                match self { $(Self::$name => $description,)+ }
            }
        }
    };
}

rules! {
    StageNameCasing: "Stages have names in lower case";
    FromAsCasing: "FROM and AS are written in the same case";
    NoEmptyContinuation: "No line between continued ones is empty";
    ConsistentInstructionCasing: "All instructions are written in the same case";
    DuplicateStageName: "Every stage has a name of its own";
    ReservedStageName: "No stage is named like something that docker means by this word";
    JSONArgsRecommended: "CMD and ENTRYPOINT are JSON arrays, so that signals reach the program";
    MaintainerDeprecated: "LABEL has taken the place of MAINTAINER";
    UndefinedArgInFrom: "FROM uses only arguments that are declared before it";
    WorkdirRelativePath: "WORKDIR is absolute, or follows one that is";
    UndefinedVar: "Every variable is set before it is used";
    MultipleInstructionsDisallowed: "CMD, ENTRYPOINT and HEALTHCHECK stand once in a stage, since only the last counts";
    LegacyKeyValueFormat: "ENV, LABEL and ARG are written with `=`";
    InvalidBaseImagePlatform: "The base image is of the platform that is asked for";
    RedundantTargetPlatform: "FROM does not ask for the platform that it gets anyway";
    SecretsUsedInArgOrEnv: "No secret goes into the image or its history by ARG or ENV";
    InvalidDefaultArgInFrom: "FROM names an image also when no build argument is given";
    FromPlatformFlagConstDisallowed: "FROM does not tie a stage to one platform";
    CopyIgnoredFile: "COPY and ADD name nothing that .dockerignore leaves out";
    InvalidDefinitionDescription: "A comment above ARG or FROM begins with the name that it describes";
    ExposeProtoCasing: "EXPOSE has protocols in lower case";
    ExposeInvalidFormat: "EXPOSE has a port and a protocol, and no address of the host";
}

impl Rule {
    /// Returns the rule of this name, whatever its case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|rule| rule.name().eq_ignore_ascii_case(name))
    }

    /// Returns whether the rule is checked only where `# check=experimental=…` names it.
    pub fn is_experimental(self) -> bool {
        self == Self::InvalidDefinitionDescription
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
