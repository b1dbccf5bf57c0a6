//! The lint rules: docker's names, and what each says.
//!
//! A warning of a rule can be switched off by its name: for a file with `# check=skip=…` at its top, and, with most rules, for an
//! instruction with the same in a comment above it. Warnings without a rule cannot.
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
    LegacyKeyValueFormat: "ENV and LABEL are written with `=`";
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
    /// Returns the rule of this name, which is written as docker writes it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|rule| rule.name() == name)
    }

    /// Returns the page of docker's documentation that explains the rule.
    pub fn url(self) -> String {
        let name = self.name();
        let mut page = String::new();
        for (at, c) in name.char_indices() {
            let after = name[at + 1..].chars().next();
            let follows_lower = name[..at].ends_with(|before: char| before.is_ascii_lowercase());
            let ends_capitals = at > 0 && after.is_some_and(|after| after.is_ascii_lowercase());
            if c.is_ascii_uppercase() && (follows_lower || ends_capitals) {
                page.push('-');
            }
            page.push(c.to_ascii_lowercase());
        }
        format!("https://docs.docker.com/go/dockerfile/rule/{page}/")
    }

    /// Returns whether the rule is checked only where `# check=experimental=…` names it.
    pub fn is_experimental(self) -> bool {
        self == Self::InvalidDefinitionDescription
    }

    /// Returns whether docker checks the rule against the file as a whole, so that a comment above an instruction cannot skip it.
    pub fn is_of_the_file(self) -> bool {
        matches!(
            self,
            Self::NoEmptyContinuation
                | Self::ConsistentInstructionCasing
                | Self::DuplicateStageName
                | Self::ReservedStageName
                | Self::InvalidBaseImagePlatform
                | Self::InvalidDefaultArgInFrom
        )
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_a_name_and_a_page() {
        for rule in Rule::ALL {
            assert_eq!(Rule::named(rule.name()), Some(*rule));
        }
        assert_eq!(Rule::ALL.len(), 22);
        for (rule, page) in [
            (Rule::JSONArgsRecommended, "json-args-recommended"),
            (Rule::StageNameCasing, "stage-name-casing"),
            (Rule::UndefinedVar, "undefined-var"),
            (Rule::SecretsUsedInArgOrEnv, "secrets-used-in-arg-or-env"),
        ] {
            assert_eq!(rule.url(), format!("https://docs.docker.com/go/dockerfile/rule/{page}/"));
        }
    }
}
