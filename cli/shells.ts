/** `memward completion SHELL`: scripts that ask `memward complete` what may stand at the cursor. */
import { Refusal } from "../core/runtime/process.ts";
import { type Command, type CommandTable, print, quoted } from "./command.ts";

/** Bash takes the part behind `=` for the word that is completed, so only that part is offered. */
const BASH = `# memward completion for bash: source <(memward completion bash)
_memward() {
  local kind text help
  COMPREPLY=()
  {
    IFS= read -r kind
    case $kind in
      files) compopt -o default ;;
      folders) compopt -o dirnames ;;
    esac
    while IFS=$'\\t' read -r text help; do
      [[ $COMP_WORDBREAKS == *=* ]] && text=\${text#--*=}
      COMPREPLY+=("$text")
    done
  } < <("$1" complete "\${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
}
complete -F _memward memward
`;

const ZSH = `#compdef memward
# memward completion for zsh: source <(memward completion zsh)
_memward() {
  local kind text help
  local -a offers
  {
    IFS= read -r kind
    while IFS=$'\\t' read -r text help; do
      offers+=("\${text//:/\\\\:}:$help")
    done
  } < <("\${words[1]}" complete "\${(j: :)words[1,CURRENT]}" 2>/dev/null)
  case $kind in
    files) _files ;;
    folders) _files -/ ;;
    *) (( \${#offers} )) && _describe -V memward offers ;;
  esac
}
if [[ \${funcstack[1]} == _memward ]]; then
  _memward
else
  compdef _memward memward
fi
`;

const FISH = `# memward completion for fish: memward completion fish | source
function __memward_complete
  set -l program (commandline -opc)[1]
  set -l lines ($program complete (commandline -cp | string collect) 2>/dev/null)
  switch "$lines[1]"
    case files
      __fish_complete_path (commandline -ct)
    case folders
      __fish_complete_directories (commandline -ct)
    case '*'
      printf '%s\\n' $lines[2..-1]
  end
end
complete -c memward -f -a '(__memward_complete)'
`;

const SCRIPTS = { bash: BASH, zsh: ZSH, fish: FISH } as const;
export const SHELLS = Object.keys(SCRIPTS);

/** The commands for completion; they complete the table that they are in. */
export function completionCommands(table: () => CommandTable): readonly Command[] {
  return [
    {
      name: "completion",
      summary: "print a script for bash, zsh or fish that completes commands, flags and names",
      words: "SHELL",
      details: `bash: source <(memward completion bash)      in ~/.bashrc
zsh:  source <(memward completion zsh)       in ~/.zshrc, after compinit
fish: memward completion fish | source       in ~/.config/fish/config.fish

Names of caches, credentials, plans and tokens are asked of the admin API while you type, when it
answers quickly.`,
      run: async (_, [shell = ""]) => {
        if (!isShell(shell)) {
          const known = SHELLS.join(", ");
          throw new Refusal(`there is no completion for ${quoted(shell)}; there is for ${known}`);
        }
        print(SCRIPTS[shell]);
        return 0;
      },
    },
    {
      name: "complete",
      summary: "say what may stand at the end of a line",
      words: "LINE",
      hidden: true,
      run: async (_, [line = ""]) => {
        const { completionText } = await import("./completion.ts");
        print(await completionText(table(), line));
        return 0;
      },
    },
  ];
}

const isShell = (text: string): text is keyof typeof SCRIPTS => Object.hasOwn(SCRIPTS, text);
