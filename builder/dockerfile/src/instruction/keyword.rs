//! The names of instructions.

macro_rules! keywords {
    ($($keyword:ident = $name:literal;)+) => {
        /// An instruction's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Keyword { $($keyword,)+ }

        impl Keyword {
            pub(crate) const NAMES: &'static [&'static str] = &[$($name,)+];

            /// Returns the keyword of this name, in whatever case.
            pub(crate) fn named(name: &str) -> Option<Self> {
                $(if name.eq_ignore_ascii_case($name) { return Some(Self::$keyword); })+
                None
            }

            /// Returns the name in upper case.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$keyword => $name,)+ }
            }
        }
    };
}

keywords! {
    Add = "ADD";
    Arg = "ARG";
    Cmd = "CMD";
    Copy = "COPY";
    Entrypoint = "ENTRYPOINT";
    Env = "ENV";
    Expose = "EXPOSE";
    From = "FROM";
    Healthcheck = "HEALTHCHECK";
    Label = "LABEL";
    Maintainer = "MAINTAINER";
    Onbuild = "ONBUILD";
    Run = "RUN";
    Shell = "SHELL";
    Stopsignal = "STOPSIGNAL";
    User = "USER";
    Volume = "VOLUME";
    Workdir = "WORKDIR";
}
