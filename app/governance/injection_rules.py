# ruff: noqa: E501
"""The patterns of `app.governance.injection`, on cleaned text: lower case, no accents, one space between words.

One pattern a line, however long; gaps are bounded and only the last marks of a run are asked for, so that matching
stays linear in the text's length.
"""

import re

_ENGLISH_VERB = (
    r"(?<!not )(?<!never )\b(?:ignore|disregard|forget|override|overwrite|bypass|discard|drop|"
    r"do not (?:follow|obey)|don't (?:follow|obey)|stop following|pay no attention to|set aside)"
)
_ENGLISH_OBJECT = r"(?:instructions?|directives?|guidelines?|prompts?|programming|constraints?|restrictions?|safeguards?|guardrails?|system message)"

_OVERRIDE = (
    rf"{_ENGLISH_VERB}\b[^.\n]{{0,50}}\b{_ENGLISH_OBJECT}\b",
    rf"{_ENGLISH_VERB} (?:all |any |every |each )?(?:of )?(?:the |your |these |those |my )?"
    r"(?:previous|prior|preceding|above|earlier|existing|internal|system|safety|company|other) (?:rules|policies|policy|orders|context|text|content)\b",
    rf"{_ENGLISH_VERB} (?:all |any |every )?(?:of )?your (?:[a-z]+ )?(?:rules|polic(?:y|ies)|training|limits|orders|safety)\b",
    r"\b(?:this|that|it|which) (?:overrides?|supersedes?|replaces?|outranks?|takes? precedence over|cancels?) (?:all |any )?(?:of )?(?:your|other|previous|earlier|the other)[^.\n]{0,25}\b(?:rules|instructions|polic(?:y|ies)|guidelines|orders|prompt)\b",
    r"\b(?:ignore|disregard|forget) (?:everything|all|anything)(?: that| you| which)?[^.\n]{0,20}\b(?:above|before|told|said|so far|learned|know)\b",
    r"\b(?:the )?(?:previous|prior|above|earlier) (?:instructions|rules|prompt)[^.\n]{0,30}\b(?:no longer apply|are (?:void|cancelled|obsolete|outdated|superseded|revoked)|do not apply)\b",
    r"\b(?:new|updated|real|actual|true) (?:system )?(?:instructions|directive|task|objective)s?(?: (?:for you|follow|from)|:)",
    r"\b(?:ignorier\w*|vergiss|vergessen sie|missacht\w*|uberspring\w*|setz\w* [^.\n]{0,30}ausser kraft)\b[^.\n]{0,50}\b(?:anweisung|instruktion|vorgabe|systemprompt|prompt|systemregel|richtlinie|befehl|regeln)",
    r"\b(?:ignore[rz]?|oublie[rz]?|ne (?:tiens|tenez) (?:pas|aucun) compte|fai(?:s|tes) abstraction|neglige[rz]?)\b[^.\n]{0,50}\b(?:instructions?|consignes?|directives?|regles)\b",
    r"\b(?:ignor[ae]n?|olvid[ae]n?|omit[ae]n?|ha(?:z|ga) caso omiso|no (?:sigas|siga|hagas caso))\b[^.\n]{0,50}\b(?:instruccion|regla|directri|indicacion|ordenes)",
    r"\b(?:ignor[ae]m?|esquec[ae]m?|desconsider[ae]m?|nao sig[ao])\b[^.\n]{0,50}\b(?:instruco|regras|diretriz|ordens|orientaco)",
    r"\b(?:ignor[ai](?:te|re)?|dimentica(?:te|re)?|trascura(?:te|re)?|non seguire)\b[^.\n]{0,50}\b(?:istruzion|regole|direttiv)",
    r"\b(?:negeer|vergeet|sla)\b[^.\n]{0,50}\b(?:instructies|regels|aanwijzingen|opdrachten|richtlijnen)\b",
    r"\b(?:z?ignoruj\w*|zapomnij\w*|pomin\w*)\b[^.\n]{0,50}\b(?:instrukcj|polecen|regul|zasad|wytyczn)",
    r"(?:指示|命令|ルール|指令|プロンプト|制約)[^。\n]{0,15}(?:無視|忘れ|従わな)|(?:忽略|无视|無視|忘记)[^。\n]{0,15}(?:指令|指示|规则|規則|提示)",
    r"\b(?:игнорируи|проигнорируи|забудь|не обращай внимания)\w*\b[^.\n]{0,50}(?:инструкци|правил|указани)",
    r"تجاهل[^.\n]{0,40}(?:التعليمات|الأوامر|القواعد)",
)

_ROLE = (
    r"\byou are (?:now|no longer|actually) (?:a |an |the |in |my |bound|dan\b|free|unrestricted|operating|acting)[^.\n]{0,60}",
    r"\b(?:act|behave|respond|answer) as (?:if you (?:were|are|had)|though you|an? (?:unrestricted|unfiltered|different|evil|root|system|admin|developer|jailbroken))",
    r"\b(?:pretend|imagine|suppose) (?:to be|that you(?: are|'re)|you(?: are|'re)) [^.\n]{0,60}(?:admin|root|developer|unrestricted|no rules|without|ai\b|assistant|bot|agent|system|terminal|manager who)",
    r"\brole-?play(?:ing)? as\b|\blet's play a (?:role|game)[^\n]{0,60}\byou (?:are|play)",
    r"\b(?:assistant|ai|bot|model|agent|persona|character)\b[^.\n]{0,20}\b(?:without|with no|has no|have no|free of) (?:any )?(?:rules|limits|restrictions|filters|guardrails|polic(?:y|ies)|ethics)\b",
    r"\b(?:this is|it's|here (?:is|speaks)) (?:the|your|one of your) (?:developer|creator|programmer|administrator|system administrator|engineer)s?\b(?: (?:who|that) (?:built|made|wrote|runs|trained|maintains))?[^\n]{0,120}\b(?:you|call|approved|test\w*|authori[sz]\w+|need|want)\b",
    r"\b(?:developer|debug|god|admin|maintenance|jailbreak|dan|sudo|unrestricted) mode\b[^.\n]{0,40}\b(?:on|enabled|activated?|active|enter|engaged)|\b(?:enter|enable|activate|switch (?:in)?to|you are in) (?:the )?(?:developer|debug|god|admin|maintenance|jailbreak|dan|sudo|unrestricted|test) mode\b",
    r"\bdo anything now\b|\bjailbr(?:eak|oken)\b",
    r"\bfrom now on,? (?:you|your|always|only|respond|answer|every)\b",
    r"\b(?:without|no|free of) (?:any )?(?:restrictions|filters|guardrails|safety rules|limits on what you)\b[^.\n]{0,40}\b(?:you|answer|respond|assistant|ai)\b",
    r"\bi(?:'m| am) (?:your|the|one of your|an?) (?:developer|creator|programmer|administrator|admin|system administrator|engineer|vendor|owner of this (?:bot|assistant|system))\b[^\n]{0,160}\b(?:authori[sz]\w+|instruct\w*|order|override|you (?:must|may|can|should|will)|grant|approve|disable|reveal|send|skip|enable|print|show)\b",
    r"\bas (?:the|your) (?:developer|creator|administrator|admin|system administrator|operator|owner)\b[^\n]{0,120}\b(?:i|you|authori[sz]\w+|override|grant|approve|disable)\b",
    r"\bthe (?:visitor|user|sender|customer|author) is (?:an? |the )?(?:admin|administrator|developer|verified|owner|operator)\b",
    r"\b(?:du bist|sie sind) (?:jetzt|nun|ab sofort|ab jetzt) (?:ein|eine|kein|im|frei|nicht mehr|der|die)\b|\btu so,? als\b|\bab (?:jetzt|sofort) (?:bist du|antwortest du|sind sie ein|antworten sie nur)",
    r"\b(?:tu es|vous etes) (?:maintenant|desormais) (?:un|une|en mode|libre|le|la)\b|\b(?:fais|faites) comme si\b|\bagi(?:s|ssez) (?:comme|en tant que)\b",
    r"\bahora eres\b|\bactua como (?:si|un|una|el|la)\b|\bfinge (?:que|ser)\b|\ba partir de ahora (?:eres|responde|debes)",
    r"\bagora (?:voce e|es|tu es) (?:um|uma|o|a)\b|\bfinja (?:que|ser)\b|\baja como (?:se|um|uma)\b|\ba partir de agora (?:voce|es|responde|deves)",
    r"\b(?:ora|adesso|d'ora in poi) sei (?:un|una|il|la|in)\b|\bfai finta di\b|\bagisci come (?:se|un|una)\b",
    r"\b(?:je bent|u bent) (?:nu|vanaf nu) (?:een|de|in|niet meer)\b|\bdoe alsof\b|\bvanaf nu (?:ben je|antwoord)",
    r"\bjestes teraz\b|\budawaj,? ze\b|\bzachowuj sie jak\b|\bod teraz (?:jestes|odpowiadaj)",
    r"あなたは(?:今から|これから|もう)[^。\n]{0,30}(?:です|だ|として|なり)|(?:ふりをして|になりきって)|你现在是",
)

_TOLD = r"(?:you|your|must|shall|ignore|send|call|approve[d]?|grant(?:ed)?|assistant|agent|instruction|tool|user|visitor|mode|execute|reply|respond|policy|override|disregard|book|delete|forward|export|update[d]?|new)"
_FRAME = (
    r"<\|(?:im_start|im_end|system|user|assistant|endoftext|start_header_id|eot_id)\|?>|<<sys>>|\[/?inst\]|<start_of_turn>",
    r"</?(?:system|assistant|developer|instructions?|tool_(?:result|call|output|response)|function_(?:result|call|results|calls)|admin|user_message|user_input|untrusted)(?:\s[^>\n]{0,80})?>|</(?:context|document|data|lead|message|evidence|passage)>",
    r"(?:^|\n|[>\]}-])[ >*#_\[(-]{0,8}(?:system|assistant|developer|admin(?:istrator)?|tool|function|root)(?: (?:message|note|notice|prompt|update|override|instruction|output|result|response|alert|log))?[ \])*_]*:[^\n]{0,120}\b"
    + _TOLD
    + r"\b",
    r"\[\s*(?:system|assistant|developer|admin|tool|internal)(?: [a-z ]{1,30})?\s*\][^\n]{0,120}\b" + _TOLD + r"\b",
    r"##\s*(?:system|instructions?|new instructions?|assistant|developer|tool (?:output|result))\b",
    r"[\"']role[\"']\s*:\s*[\"'](?:system|assistant|tool|developer)[\"']|[\"'](?:tool_calls?|function_call|tool_name|tool_result)[\"']\s*:",
    r"\b(?:end|begin|start)(?:ning)? of (?:the )?(?:user|customer|lead|untrusted|system|external|visitor)?[ -]?(?:message|input|data|document|prompt|context|text|instructions|content|email)s?\b[^\n]{0,120}\b"
    + _TOLD
    + r"\b",
    r"(?:---|===|\*\*\*|###|\"\"\"|```)\s*(?:end|begin|system|new instructions?|instructions?|admin)\b[^\n]{0,40}",
    r"\b(?:system|security|admin(?:istrator)?) (?:override|notice|directive|message|prompt update)\b[^\n]{0,100}\b"
    + _TOLD
    + r"\b",
    r"\b(?:tool|function|crm|api|calendar)(?: (?:call|lookup|search))? (?:returned|result|output|response)\b\s*(?::|=|says)[^\n]{0,140}\b(?:approved|authori[sz]ed|granted|verified|vip|must|send|call|instruction|next step|required action)\b",
    r"\btool\b:? [a-z]+(?:_[a-z]+)* ?(?:->|=>|returned|returns|result|output)|\b(?:run|ran|called|executed) your tools?\b",
    r"\bthe (?:next|following|pending) (?:e-?mail|message|action|call|request|tool call|booking) (?:is|was|has been) (?:already |pre-?)?(?:approved|authori[sz]ed|confirmed|granted)\b",
    r"(?:^|\n)\s{0,8}(?:observation|action|action input|thought|final answer)\s*:\s*\S[^\n]{0,200}\n?[^\n]{0,100}\b(?:send|call|tool|approved|execute|action|email|update|book)\b",
)

_AGENT = r"(?:ai|a\.i\.|llm|assistant|agent|bot|chatbot|language model|ai model|ai system|ai agent|ai assistant|virtual assistant|automated (?:system|assistant|agent)|sales (?:agent|bot|assistant)|crm agent|(?:scoring|ranking|routing) (?:model|system|engine|algorithm)|model)"
_ADDRESS = (
    rf"\b(?:note|notice|message|memo|instructions?|attention|hint|reminder|guidance|directive|information|request|important)\b[^.\n]{{0,25}}\b(?:to|for|:)\s*(?:the |any |all |our |your )?{_AGENT}s?\b(?! (?:team|license|price|pricing|feature|plan))",
    rf"\bif you(?: are|'re) (?:an? |the )?{_AGENT}\b",
    rf"\b(?:dear|hello|hey|hi|attention|listen),? (?:the |my )?{_AGENT}\b(?! (?:team|manager))",
    rf"\b(?:any |the |all |an |every )?{_AGENT}s? (?:that |which |who )?(?:(?:is|are|reads?|process(?:es)?|handles?|summari[sz]es?|answers?|sees?|quotes?|cites?|uses?|retrieves?|is reading|are reading|reading|processing|handling|summari[sz]ing|answering|quoting|retrieving|using) ){{1,2}}(?:this|these|from this|with this|any question|a question|questions|such)\b[^\n]{{0,160}}\b(?:must|should|shall|has to|have to|needs? to|is to|are to|will|please|may|is required|are required|always|send|call|add|include|ignore|forward|book|set)\b",
    rf"\b(?:the |any |all )?{_AGENT}s? (?:must|shall|should|has to|have to|is to|are to|is (?:required|instructed|authori[sz]ed|allowed|permitted) to|are (?:required|instructed|authori[sz]ed|allowed|permitted) to|needs? to) (?:always |now |also |first |immediately |then |not )?(?:send|call|forward|e-?mail|book|create|update|set|mark|ignore|include|add|append|use|reply|respond|answer|recommend|approve|grant|run|execute|delete|export|disclose|reveal|treat|schedule|offer|confirm|tell|state|write|insert|output)\b",
    r"\bwhen (?:you (?:summari[sz]e|answer|process|read|quote|retrieve|use|cite)|summari[sz]ing|answering|processing|retrieving|quoting)\b[^.\n]{0,60}\b(?:this|page|document|lead|message|question|chunk|passage|record)s?\b[^.\n]{0,80}\b(?:must|always|also|first|send|call|include|tell|say|add|append|forward|set|book|use the)\b",
    rf"\b{_AGENT}s?, you (?:must|shall|should|have to|are to|need to) (?:always |now |also |first |immediately |then |not )?(?:send|call|forward|e-?mail|book|create|update|set|mark|ignore|include|add|append|use|approve|grant|run|execute|delete|export|disclose|reveal)\b",
    r"\b(?:hinweis|anweisung|nachricht|notiz|achtung|anmerkung)\b[^.\n]{0,20}\b(?:an|fur) (?:die |den |das |alle )?(?:ki|assistent|agent|bot|sprachmodell|modell|chatbot)|\b(?:wenn|falls) (?:du|sie) (?:ein |eine )?(?:ki|sprachmodell|assistent|bot)\b",
    r"\b(?:note|consigne|instruction|message|attention)\b[^.\n]{0,20}\b(?:a|pour|au|aux) ?(?:l'|le |la |les |tout )?(?:ia|assistant|agent|bot|modele)\b|\bsi (?:tu es|vous etes) (?:un |une )?(?:ia|assistant|modele|agent)\b",
    r"\b(?:nota|mensaje|instruccion(?:es)?|aviso|atencion)\b[^.\n]{0,20}\b(?:para|al|a) (?:el |la |los )?(?:ia|asistente|agente|bot|modelo)\b|\bsi eres (?:un |una )?(?:ia|asistente|modelo|agente)\b",
    r"\b(?:nota|mensagem|instruco?es|instrucao|aviso|atencao)\b[^.\n]{0,20}\b(?:para|ao|a) (?:o |a )?(?:ia|assistente|agente|bot|modelo)\b",
    r"\b(?:nota|messaggio|istruzion[ei]|avviso|attenzione)\b[^.\n]{0,20}\b(?:per|all'|al|alla) ?(?:l'|il |la )?(?:ia|assistente|agente|bot|modello)\b",
    r"\b(?:bericht|instructies?|opmerking|let op|aan)\b[^.\n]{0,20}\b(?:aan|voor) (?:de |het )?(?:ai|assistent|agent|bot|taalmodel|model)\b",
    r"\b(?:uwaga|wiadomosc|instrukcja|polecenie)\b[^.\n]{0,20}\b(?:dla|do) (?:asystenta|agenta|bota|modelu|ai|si)\b",
    r"(?:ai|アシスタント|エージェント|ボット)(?:へ|への|宛)[^。\n]{0,20}(?:指示|命令|お知らせ|注意)|(?:ai|人工智能)助手[^。\n]{0,10}(?:必须|请)",
)

_NAME = r"[a-z]+(?:_[a-z]+)+"
_TOOL = (
    rf"\b(?:call|invoke|execute|run|use|trigger|fire|perform|issue)\b (?:the |your |tool |function |a )*[`'\"]?(?:{_NAME}|[a-z]+\.[a-z_]+(?=\())",
    rf"\b{_NAME}\s*\([^)\n]{{0,200}}\)|\b(?:{_NAME})\b (?:tool|function)\b",
    r"\b(?:call|invoke|execute|run|use|trigger) (?:the |your )?(?:e-?mail|mail|crm|calendar|booking|note|refund|contact|export)[ -](?:tool|function|integration|connector|api)\b",
    r"\b(?:approval|approved|authori[sz]ed|requires_approval|needs_approval|is_admin|admin|confidence|human_review)\b\s*(?:=|:)\s*(?:granted|true|yes|1|1\.0|100|false|no|off|none)\b",
    r"\bstatus ?[=:] ?[\"']?(?:approved|granted|authori[sz]ed)\b|\bapproval_id\b",
    r"\bconfidence (?:of |is )?(?:1\.0|100 ?%)|\b(?:action|decision|intent|verdict|disposition) ?= ?[\"']?[a-z]{3,}",
    r"\b(?:book|reserve|block|take|fill|schedule)\b[^.\n]{0,30}\b(?:every|all) (?:of )?(?:the |your )?(?:free |open |available |remaining )?(?:slots?|appointments?|meetings?|calendar)\b",
    r"\b(?:set|change|update|mark|raise|move|put)\b[^.\n]{0,25}\b(?:lead|score|stage|priority|approval|confidence|deal|record|contact|crm)\b[^.\n]{0,25}\b(?:to|as|=)\s*[\"'`]?(?:100|1\.0|hot|vip|won|closed|qualified|approved|granted|highest|maximum|verified|admin|customer)\b",
    r"\b(?:send|e-?mail|forward|book|issue|grant|transfer|apply|approve|delete|create|update|wire|pay|schedule)\b[^.\n]{0,80}\b(?:without (?:approval|confirmation|confirming|review|checking with|waiting for|telling|a human|any (?:approval|confirmation|review))|no (?:approval|confirmation|review) (?:is )?(?:needed|required|necessary)|do not (?:ask|wait|confirm)|skip (?:the )?(?:approval|review|confirmation))\b",
    r"\b(?:skip|bypass|disable|turn off|circumvent) (?:the |any |all |your )*(?:approvals?|human review|review step|escalation|safety|security|verification|policy|policies|filters?|tool policy)\b",
    r"\b(?:delete|drop|wipe|erase|purge|remove) (?:all |every |the entire |the whole )(?:of )?(?:the |your )?(?:leads?|contacts?|crm|records|bookings|notes|database|tables?|customers?)\b",
    r"\b(?:send|e-?mail|forward|cc|bcc|copy)\b[^.\n]{0,60}\b(?:to )?(?:all|every|each) (?:of )?(?:your |the |our )?(?:customers?|contacts|leads|clients|users|recipients|addresses)\b",
    r"\b(?:also |then |now |immediately |please |silently |quietly )(?:bcc|cc|send a copy|forward a copy)\b[^.\n]{0,60}@",
    r"\b(?:decode|decrypt|base64|rot13|unscramble)\b[^.\n]{0,60}\b(?:and|then) (?:follow|execute|do|obey|run|act|carry out|comply)\b",
)

_KEPT = (
    r"(?:(?:your|the) (?:[a-z]+ ){0,2}(?:system prompt|system message|initial prompt|hidden prompt|initial instructions|original instructions|internal instructions|hidden instructions|secret instructions|prompt|developer message)"
    r"|(?:your|the|all|any) (?:[a-z]+ ){0,2}(?:api[ _-]?keys?|secrets|credentials|passwords?|access tokens?|environment variables|env vars)"
    r"|(?:your|the) (?:own )?instructions (?:verbatim|word for word|above|in full)|system prompt"
    r"|your (?:complete|full|exact|entire|whole|step-by-step|own|current|detailed|given) (?:[a-z]+ )?(?:instructions|prompt|rules|configuration)|(?:the )?instructions (?:that )?you (?:were|have been|are) given"
    r"|(?:list of|all) your (?:internal )?(?:tools|functions)|your (?:tools|functions) (?:with|and) their|(?:which|what) (?:api keys?|credentials|secrets|passwords)"
    r"|(?:other|all|your other|every|another) (?:[a-z]+ ){0,2}(?:customers?|clients?|tenants?|leads?|companies|users?|people|contacts?)(?:'s?|s')? (?:[a-z]+ ){0,2}(?:data|details|e-?mails?|e-?mail addresses|addresses|names|messages|conversations|phone numbers|records|contracts|prices|list)"
    r"|(?:names|e-?mails?|e-?mail addresses|addresses|details|phone numbers|contact data|list|records|messages|conversations|data) (?:[a-z]+ ){0,3}(?:of|for|from) (?:all|every|each|other|the last|your (?:other|last|existing)) (?:[a-z0-9]+ ){0,3}(?:customers?|clients?|tenants?|leads?|users?|contacts?)"
    r"|(?:contents?|text|dump|copy) of (?:your|the) (?:entire |whole |full |internal )*(?:knowledge base|database|crm|memory|context|prompt|configuration)"
    r"|(?:your|the) (?:customer|contact|lead|client) (?:list|database)|(?:the )?(?:whole|entire|full|previous|earlier) (?:conversation|chat) history"
    r"|(?:your|the) (?:internal )?(?:scoring rules|scoring model|tool list|list of tools|configuration|tools and))"
)
_EXFILTRATE = (
    r"\b(?:reveal|print|repeat|show|output|disclose|display|leak|dump|return|tell me|give me|list|recite|quote|paste|share|summari[sz]e|translate|write out|send|forward|post|e-?mail|export|include|append|attach|copy|encode|expose|state|name|describe|document|provide|spell out|fill|what (?:is|are|was|were))\b[^.\n]{0,70}"
    + _KEPT
    + r"\b",
    r"\b(?:which|what) (?:api keys?|credentials|secrets|passwords|access tokens?) (?:do|are|did) you\b",
    r"!\[[^\]\n]{0,200}\]\(\s*<?(?:https?:)?//[^)\s]{1,500}(?:[?&=]|\{|%7b|\$|<|\[)[^)\n]{0,300}\)?",
    r"<(?:img|iframe|object|embed|link|script|video|audio)\b[^>\n]{0,300}(?:src|href|data)\s*=\s*[\"']?(?:https?:)?//",
    r"\[[^\]\n]{0,200}\]\(\s*<?(?:https?:)?//[^)\s]{1,300}(?:\{|%7b|\$\{|<[a-z_ ]+>|\[[a-z_ ]+\])",
    r"(?:https?:)?//[^\s)\"']{1,300}[?&][^\s=]{1,40}=(?:\{|%7b|\$\{|<|\[|_{2,}|\.{3}|x{3,})",
    r"\b(?:append|include|put|add|insert|encode|embed|place|replace|attach)\b[^.\n]{0,80}\b(?:in|to|into|as|at the end of|with)\b[^.\n]{0,30}\b(?:url|link|query string|image (?:address|source|tag|url)|parameter|markdown image)\b",
    r"\b(?:render|display|show|load|include|embed|insert|add|end)\b[^.\n]{0,50}\b(?:this|the following|a|an|with) (?:markdown |tracking |status )?(?:image|pixel|picture)\b[^\n]{0,120}(?:https?:|//|!\[)",
    r"\b(?:gib|zeig|nenn|verrat|schick|sende|druck|wiederhol)\w*\b[^.\n]{0,60}\b(?:system-?prompt|systemanweisung|system-?nachricht|interne[nr]? anweisung|geheime[nr]?|zugangsdaten|api-?schlussel|(?:aller|anderer|alle|andere) (?:kunden|leads|kontakte))",
    r"\b(?:revele|affiche|montre|donne|envoie|envoye|communique|repete|transmet|transfere)\w*\b[^.\n]{0,60}\b(?:invite systeme|prompt systeme|instructions (?:internes|systeme|initiales)|cles? api|mots? de passe|identifiants|(?:de tous les|des autres|tous les|tous vos|de tous vos) (?:clients|contacts|prospects))",
    r"\b(?:revela|muestra|muestre|ensena|dime|envia|envie|manda|repite|reenvia)\w*\b[^.\n]{0,60}\b(?:prompt del sistema|instrucciones (?:internas|del sistema|iniciales)|claves? (?:de )?api|contrasenas?|credenciales|(?:todos los|otros|de todos los|los demas|de los demas) (?:clientes|contactos))",
    r"\b(?:revel|mostr|mostre|diga|envi|repit|encaminh)\w*\b[^.\n]{0,60}\b(?:prompt do sistema|instrucoes (?:internas|do sistema|iniciais)|chaves? (?:de |da )?api|senhas?|credenciais|(?:todos os|outros|de todos os|dos outros) (?:clientes|contatos|contactos))",
    r"\b(?:rivela|mostra|dimmi|invia|manda|ripeti|inoltra|stampa)\w*\b[^.\n]{0,60}\b(?:prompt di sistema|istruzioni (?:interne|di sistema|iniziali)|chiav[ei] api|password|credenziali|(?:tutti i|altri|di tutti i|degli altri) (?:clienti|contatti))",
    r"\b(?:toon|geef|laat|stuur|verzend|mail|herhaal|onthul)\w*\b[^.\n]{0,60}\b(?:systeemprompt|interne instructies|api-?sleutel|wachtwoord\w*|inloggegevens|(?:alle|andere|aller) (?:klanten|contacten|leads)(?:gegevens|lijst)?)",
    r"\b(?:ujawnij|pokaz|wyswietl|podaj|wyslij|przeslij|powtorz)\w*\b[^.\n]{0,60}\b(?:prompt systemowy|instrukcj\w+ systemow\w+|klucz\w* api|hasl\w+|(?:wszystkich|innych) (?:klientow|kontaktow))",
    r"(?:システムプロンプト|内部の?指示|顧客(?:リスト|一覧|データ)|パスワード|apiキー)[^。\n]{0,20}(?:表示|教え|送|出力|見せ|公開)|(?:系统提示|客户(?:名单|数据|列表))[^。\n]{0,15}(?:显示|告诉|发送|输出)|(?:显示|告诉|发送|输出)[^。\n]{0,15}(?:系统提示|客户(?:名单|数据|列表))",
)

_SECRECY = (
    r"\b(?:no need to|do not|don't|never|please don't) (?:mention|say|write|note|include|report) (?:it|this|that|any of it)\b[^.\n]{0,15}\b(?:in|to) (?:your (?:reply|answer|response|summary)|the (?:reply|answer|user|human|log|summary))\b",
    r"\b(?:do not|don't|never|without) (?:tell(?:ing)?|mention(?:ing)?|reveal(?:ing)?|inform(?:ing)?|notify(?:ing)?|alert(?:ing)?|show(?:ing)?|disclos(?:e|ing))\b[^.\n]{0,40}\b(?:to )?(?:the |any |a )?(?:user|human|operator|person who|visitor|reviewer|supervisor|administrator|sales team|staff)\b",
    r"\b(?:do not|don't|never) (?:mention|reveal|disclose|quote|refer to|show|repeat) (?:this|these|that|the above|the following|any of this)\b[^.\n]{0,30}\b(?:note|instruction|message|comment|paragraph|text|in your (?:answer|reply|response))",
)

RULES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (rule, re.compile("|".join(f"(?:{pattern})" for pattern in patterns)))
    for rule, patterns in (
        ("override", _OVERRIDE),
        ("role", _ROLE),
        ("frame", _FRAME),
        ("address", _ADDRESS),
        ("tool", _TOOL),
        ("exfiltrate", _EXFILTRATE),
        ("secrecy", _SECRECY),
    )
)

COMMENT_SPEAKS = re.compile(
    r"\b(?:you|your|assistant|agent|ai|llm|bot|model|system|prompt|instruction|instructions|(?<!-)ignore(?! (?:start|end))|must|send|call|tool|"
    r"visitor|approve|approval|forward|e-?mail|reply|respond|answer|book|export|reveal)\b|anweisung|assistent|instruccion|consigne|指示"
)

HIDDEN_MARKUP = re.compile(
    r"<[a-z]+[^>\n]{0,200}(?:display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0|opacity\s*:\s*0(?!\.[1-9])|"
    r"color\s*:\s*(?:white|#fff(?:fff)?|transparent)|\shidden(?:\s|>|=))[^>\n]{0,200}>",
    re.IGNORECASE,
)

# What a decoded payload is taken for when it holds any of it: nobody encodes an order to a person.
DECODED_ORDER = re.compile(
    r"\b(?:ignore|disregard|forget|reveal|repeat|print|send|e-?mail|forward|call|execute|delete|export|book|approve|"
    r"update|transfer|set|mark|include|append)\b[^.\n]{0,80}\b(?:all|every|the|your|to|any|previous|this|these|a|as)\b"
)
