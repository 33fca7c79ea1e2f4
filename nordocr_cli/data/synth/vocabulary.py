"""The words of Nordic business documents, per language: enough to write lines without any corpus.

Everything here was written for this project. Words are separated by `|`, so that a phrase may hold
spaces.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Vocabulary:
    """Words of one language; `thousands`, `decimal` and `currency` are its usual marks."""

    language: str
    thousands: tuple[str, ...]
    decimal: str
    currency: tuple[str, ...]
    months: tuple[str, ...]
    headings: tuple[str, ...]
    accounts: tuple[str, ...]
    labels: tuple[str, ...]
    units: tuple[str, ...]
    companies: tuple[str, ...]
    forms: tuple[str, ...]
    people: tuple[str, ...]
    streets: tuple[str, ...]
    places: tuple[str, ...]
    items: tuple[str, ...]
    openings: tuple[str, ...]
    verbs: tuple[str, ...]
    endings: tuple[str, ...]
    pairs: tuple[str, ...]
    page: str


def _words(text: str) -> tuple[str, ...]:
    return tuple(" ".join(word.split()) for word in text.split("|"))


SWEDISH = Vocabulary(
    language="sv",
    thousands=(" ", " ", " ", " ", ".", ""),
    decimal=",",
    currency=("kr", "SEK", "kr", ":-", "kronor", "tkr", "Mkr", "EUR", "€"),
    months=_words(
        """
        januari|februari|mars|april|maj|juni|juli|augusti|september|oktober|november|december
        """
    ),
    headings=_words(
        """
        Resultaträkning|Balansräkning|Noter|Förvaltningsberättelse|Kassaflödesanalys|Tillgångar|
        Eget kapital och skulder|Faktura|Kreditfaktura|Kontoutdrag|Orderbekräftelse|Följesedel|
        Underskrifter|Revisionsberättelse|Påminnelse|Offert|Hyresavi|Årsredovisning|Flerårsöversikt|
        Tilläggsupplysningar|Protokoll|Dagordning|Avtal|Lönebesked|Bokslut|
        Väsentliga händelser under året|Ställda säkerheter|Upplysningar till balansräkningen|
        Kostnadsspecifikation
        """
    ),
    accounts=_words(
        """
        Nettoomsättning|Övriga rörelseintäkter|Råvaror och förnödenheter|Handelsvaror|
        Personalkostnader|Rörelseresultat|Övriga externa kostnader|Av- och nedskrivningar|
        Ränteintäkter och liknande poster|Räntekostnader|Årets resultat|Skatt på årets resultat|
        Bokslutsdispositioner|Inventarier, verktyg och installationer|Byggnader och mark|
        Kundfordringar|Kassa och bank|Leverantörsskulder|Upplupna kostnader|Förutbetalda intäkter|
        Aktiekapital|Fritt eget kapital|Checkräkningskredit|Skulder till kreditinstitut|
        Periodiseringsfonder|Överavskrivningar|Summa tillgångar|Varulager|
        Summa eget kapital och skulder|Balanserad vinst|Reservfond|Lokalhyra|El och värme|
        Försäkringspremier|Frakter|Bankkostnader|Löner till tjänstemän|Arbetsgivaravgifter|
        Semesterlöneskuld|Utgående moms|Ingående moms|Avräkning skatter
        """
    ),
    labels=_words(
        """
        Fakturanr|Fakturadatum|Förfallodatum|Kundnr|Er referens|Vår referens|Org.nr|OCR|Bankgiro|
        Plusgiro|Att betala|Betalningsvillkor|Dröjsmålsränta|Moms|Momsreg.nr|Öresavrundning|
        Summa exkl. moms|Totalt|Leveransadress|Telefon|E-post|Ordernr|Artikelnr|Benämning|Antal|
        À-pris|Enhet|Belopp|Rabatt|Ert ordernr|Godsmärke|Ingående saldo|Utgående saldo|
        Bokföringsdag|Transaktion|Saldo|Avser|Period|Handläggare|Ärende|Sida|Datum|Styrelsens säte|
        Varav moms|Not
        """
    ),
    units=_words("st|kg|tim|m|m²|l|förp|dagar|mån|km|ton|par|rulle|låda"),
    companies=_words(
        """
        Björkängens Åkeri|Sjöhaga Bygg|Nordvik Elteknik|Lövstads Måleri|Västkustens Plåt|
        Ekbackens Förskola|Hällefors Trä|Brf Gläntan|Brf Fyrtornet|Åkerlunds Redovisning|
        Östervåla Mekaniska|Skärgårdens Båtvarv|Grönkulla Trädgård|Kvarnens Bageri
        """
    ),
    forms=_words(
        """
        AB|HB|KB|ek. för.|Aktiebolag|& Söner AB|i Skåne AB|Holding AB|Fastigheter AB|(publ)
        """
    ),
    people=_words(
        """
        Åsa Öberg|Göran Sjödin|Märta Åkesson|Björn Hägg|Karin Lindström|Örjan Fälth|
        Eva-Lena Nyström|Per Wänerklint|Håkan Zetterqvist|Kerstin Ljungqvist|Sören Bäckman|
        Ylva Järvinen|Jörgen Quist|Linnéa Ahlgren|Ulf Cederblad|Frida Hjärtstam
        """
    ),
    streets=_words(
        """
        Storgatan|Hamngatan|Kyrkvägen|Åsgatan|Ängsvägen|Västra Järnvägsgatan|Box|Skolgränd|
        Fabriksvägen|Öster om ån|Lärkstigen
        """
    ),
    places=_words(
        """
        STOCKHOLM|Göteborg|Malmö|Örebro|Västerås|Jönköping|Umeå|Gävle|Växjö|Luleå|Östersund|
        Skellefteå|Hässleholm|Kungälv|TÄBY
        """
    ),
    items=_words(
        """
        Konsultarbete|Arbetstid|Skruv rostfri|Rörböj 90°|Kopieringspapper A4|Färg täckvit|
        Takläggning|Städning trapphus|Resekostnad|Milersättning|Serviceavgift|Årsabonnemang|
        Kabel 5×2,5|Elmätare|Gångjärn|Spånskiva|Hyra släp|Fika|Snöröjning|Licens Office|Porto|
        Tätningslist|Skyddshandskar|Förlängningssladd|Grus 8-16|Däck 205/55 R16|Målartvätt|
        Glödlampa 60 W
        """
    ),
    openings=_words(
        """
        Styrelsen|Bolaget|Föreningen|Företaget|Årsstämman|Revisorn|Hyresgästen|Köparen|Säljaren|
        Verkställande direktören|Koncernen|Kommunen|Skatteverket|Ordföranden|Leverantören|Kunden|
        Banken|Parterna|Under året har bolaget|Efter årets slut har vi
        """
    ),
    verbs=_words(
        """
        har beslutat att|föreslår att|bedömer att|ansvarar för att|räknar med att|har under året|
        är skyldig att|kan enligt avtalet|ska senast den 30 juni|avser att|har godkänt att|
        fick i uppdrag att|bör enligt lagen|önskar
        """
    ),
    endings=_words(
        """
        dela ut 2 kr per aktie|säga upp hyresavtalet|betala för varorna i förskott|
        byta värmepumpen i fastigheten|öka försäljningen|anställa ytterligare två montörer|
        göra avdrag för ingående moms|lämna årsredovisningen till Bolagsverket|teckna ett nytt lån|
        sänka årsavgiften med 3 %|
        värdera varulagret till det lägsta av anskaffningsvärdet och nettoförsäljningsvärdet|
        måla om fönstren åt söder|flytta verksamheten till större lokaler|
        följa förändringarna på marknaden|se över försäkringen
        """
    ),
    pairs=_words(
        """
        hår|har|för|for|får|far|båt|bat|när|nar|är|ar|år|över|öva|höra|hora|kål|kal|kol|mål|mal|mat|
        måt|lön|lan|lån|län|råd|rad|röd|rod|så|sa|sä|tal|tål|väg|vag|våg|å|ä|a|ö|o|åt|ät|at|sätt|
        satt|sått|dörr|dorr|full|fall|fåll|fäll|ålder|alder|öl|ål|al
        """
    ),
    page="Sida",
)

NORWEGIAN = Vocabulary(
    language="no",
    thousands=(" ", " ", " ", " ", ".", ""),
    decimal=",",
    currency=("kr", "NOK", "kr", ",-", "kroner", "MNOK", "tkr", "EUR", "€"),
    months=_words(
        """
        januar|februar|mars|april|mai|juni|juli|august|september|oktober|november|desember
        """
    ),
    headings=_words(
        """
        Resultatregnskap|Balanse|Noter til regnskapet|Årsberetning|Kontantstrømoppstilling|
        Eiendeler|Egenkapital og gjeld|Faktura|Kreditnota|Kontoutskrift|Ordrebekreftelse|
        Følgeseddel|Revisors beretning|Purring|Tilbud|Møteprotokoll|Innkalling|Leieavtale|
        Lønnsslipp|Vedlegg|Regnskapsprinsipper|Skattekostnad|Varige driftsmidler|Fullmakt|Årsoppgjør
        """
    ),
    accounts=_words(
        """
        Salgsinntekt|Annen driftsinntekt|Varekostnad|Lønnskostnad|Avskrivning på driftsmidler|
        Annen driftskostnad|Driftsresultat|Annen renteinntekt|Annen rentekostnad|
        Ordinært resultat før skattekostnad|Årsresultat|Overføring til annen egenkapital|
        Tomter, bygninger og annen fast eiendom|Kundefordringer|Bankinnskudd, kontanter o.l.|
        Leverandørgjeld|Skyldig merverdiavgift|Betalbar skatt|Skyldige offentlige avgifter|
        Aksjekapital|Opptjent egenkapital|Sum eiendeler|Sum gjeld|Utsatt skattefordel|
        Påløpte feriepenger|Husleie|Strøm og oppvarming|Arbeidsgiveravgift|Forsikringspremie|
        Reisekostnader|Gebyrer|Øreavrunding
        """
    ),
    labels=_words(
        """
        Fakturanr.|Fakturadato|Forfallsdato|Kundenr.|Deres ref.|Vår ref.|Org.nr.|KID|Kontonummer|
        Å betale|Betalingsbetingelser|Forsinkelsesrente|MVA|MVA-grunnlag|Sum eks. mva.|Totalt|
        Leveringsadresse|Telefon|E-post|Ordrenr.|Varenr.|Beskrivelse|Antall|Pris|Enhet|Beløp|Rabatt|
        Inngående saldo|Utgående saldo|Bokført|Gjelder|Periode|Saksbehandler|Saksnr.|Side|Dato|Note|
        Løpenr.
        """
    ),
    units=_words("stk|kg|timer|m|l|pk|døgn|mnd|km|tonn|par|rull|eske|løpemeter"),
    companies=_words(
        """
        Fjordgløtt Bygg|Brønnøy Transport|Sørlandets Rør|Åsen Regnskap|Lillevik Båtservice|
        Nordlys Elektro|Tømrermester Bråthen|Sameiet Bjørkehagen|Borettslaget Måltrosten|
        Østmarka Barnehage|Hægeland Sag|Kjøkkenhjørnet|Vågsbygd Rørlegger|Trøndersk Fisk
        """
    ),
    forms=_words("AS|ASA|ANS|DA|BA|Borettslag|& Sønn AS|Eiendom AS|Holding AS|SA"),
    people=_words(
        """
        Øystein Bråten|Åse Bjørnstad|Kåre Løvås|Synnøve Hægstad|Jørgen Aasen|Ragnhild Sæther|
        Bjørg Tveit|Håvard Nygård|Grethe Øvrebø|Tor-Egil Rød|Marte Lyngås|Sølvi Kjær|Pål Fossum|
        Ingrid Ødegård|Wenche Quale|Zakarias Vik
        """
    ),
    streets=_words(
        """
        Storgata|Kirkeveien|Øvre Slottsgate|Åsveien|Fjordgata|Postboks|Bjørnstubben|Møllebakken|
        Sjøgata|Nedre gate
        """
    ),
    places=_words(
        """
        OSLO|Bergen|TRONDHEIM|Tromsø|Bodø|Ålesund|Hønefoss|Drøbak|Sandefjord|Mosjøen|Førde|
        Lillestrøm|Kristiansand S|Vadsø
        """
    ),
    items=_words(
        """
        Konsulentbistand|Arbeidstimer|Kjøregodtgjørelse|Rørdeler|Maling hvit|Kopipapir A4|
        Årsabonnement|Leie av tilhenger|Snømåking|Skruer 4×40|Strømkabel 3×1,5|Renhold|Frakt|
        Fôrblanding|Glassplate|Byggesøknad|Overnatting|Møterom|Dørhåndtak|Takstein|Grøfting
        """
    ),
    openings=_words(
        """
        Styret|Selskapet|Foreningen|Generalforsamlingen|Revisor|Leietaker|Kjøperen|Selgeren|
        Daglig leder|Konsernet|Kommunen|Skatteetaten|Banken|Partene|Leverandøren|
        I løpet av året har selskapet|Etter styrets mening|Ledelsen
        """
    ),
    verbs=_words(
        """
        har besluttet å|foreslår å|vurderer å|har ansvar for å|regner med å|har fått i oppdrag å|
        er forpliktet til å|kan etter avtalen|skal innen 1. mai|ønsker å|har godkjent å|
        bør i henhold til loven
        """
    ),
    endings=_words(
        """
        utdele 500 kr pr. aksje|si opp leieavtalen|betale varene på forskudd|bytte ut varmepumpen|
        øke omsetningen med 8 %|ansette to nye medarbeidere|
        kreve fradrag for inngående merverdiavgift|sende årsregnskapet til Brønnøysund|
        ta opp et nytt lån|redusere felleskostnadene|
        vurdere varelageret til laveste av anskaffelseskost og virkelig verdi|
        male bygningen på nytt|følge utviklingen i markedet|flytte til større lokaler på Sørlandet|
        gjennomføre vedlikehold av bryggen
        """
    ),
    pairs=_words(
        """
        før|for|fôr|får|far|hår|har|når|nar|løs|los|lås|las|søk|sok|bør|bor|båt|bat|dør|dor|år|ar|
        ær|ør|øl|ål|al|må|ma|mø|kjøp|råd|rad|rød|så|sa|sø|tå|ta|tø|læ|la|lå|være|vare|våre|øre|ære|
        åre|å|a|ø|o|æ|e|på|pa|nå|blå|bla|gjør|gjor|sær|sår|sar
        """
    ),
    page="Side",
)

NYNORSK_WORDS = _words(
    """
        Styret har vedteke å|Selskapet ønskjer å|Kommunen skal ikkje|Det vart ikkje|
        Møtet vart halde|Kva kostar det|Vi gjer merksam på|Rekneskapen syner|Årsmeldinga for|
        Leigetakaren pliktar å|Eigarane|Innhaldet i saka|Frå og med 1. januar|
        Verksemda går føre seg i|Dei tilsette|Utgifter til løn|Inntekter|Vedlegg|Fråsegn|
        Høyringsfrist|Sakshandsamar|Tilskot|Løyve|Føremål|Heimel|Kvar einskild
        """
)

DANISH = Vocabulary(
    language="da",
    thousands=(".", ".", ".", " ", ""),
    decimal=",",
    currency=("kr.", "DKK", "kr.", "kr", ",-", "kroner", "t.kr.", "EUR", "€"),
    months=_words(
        """
        januar|februar|marts|april|maj|juni|juli|august|september|oktober|november|december
        """
    ),
    headings=_words(
        """
        Resultatopgørelse|Balance|Noter|Ledelsesberetning|Pengestrømsopgørelse|Aktiver|Passiver|
        Faktura|Kreditnota|Kontoudtog|Ordrebekræftelse|Følgeseddel|Revisionspåtegning|Rykker|Tilbud|
        Referat|Dagsorden|Lejekontrakt|Lønseddel|Bilag|Årsrapport|Anvendt regnskabspraksis|
        Hoved- og nøgletal|Eventualforpligtelser|Egenkapitalopgørelse
        """
    ),
    accounts=_words(
        """
        Nettoomsætning|Andre driftsindtægter|Vareforbrug|Personaleomkostninger|Afskrivninger|
        Bruttofortjeneste|Resultat før skat|Finansielle indtægter|Finansielle omkostninger|
        Skat af årets resultat|Årets resultat|Forslag til resultatdisponering|Grunde og bygninger|
        Driftsmateriel og inventar|Tilgodehavender fra salg|Likvide beholdninger|Virksomhedskapital|
        Overført resultat|Gæld til kreditinstitutter|Leverandører af varer og tjenesteydelser|
        Anden gæld|Aktiver i alt|Passiver i alt|Husleje|El, vand og varme|Forsikringer|
        Småanskaffelser|Kørselsgodtgørelse|Feriepengeforpligtelse|Skyldig moms|Rengøring
        """
    ),
    labels=_words(
        """
        Fakturanr.|Fakturadato|Forfaldsdato|Kundenr.|Deres ref.|Vores ref.|CVR-nr.|FI-kreditornr.|
        Reg.nr.|Kontonr.|Beløb i alt|Betalingsbetingelser|Morarente|Moms 25 %|Momsgrundlag|
        I alt ekskl. moms|Leveringsadresse|Telefon|E-mail|Ordrenr.|Varenr.|Beskrivelse|Antal|
        Stk. pris|Enhed|Beløb|Rabat|Primosaldo|Ultimosaldo|Bogført|Vedrørende|Periode|Sagsbehandler|
        Sagsnr.|Side|Dato
        """
    ),
    units=_words("stk.|kg|timer|m|ltr.|pk.|døgn|mdr.|km|ton|par|rulle|æske|kasse"),
    companies=_words(
        """
        Sønderjysk Tømrer|Nørrebro Cykler|Bækgårdens Mejeri|Østjyllands El|Fåborg Værft|
        Kærsgaard Revision|Ejerforeningen Lærken|Andelsboligforeningen Søparken|
        Mølleåens Maskinfabrik|Vesterbro Bageri|Ærø Færgefart|Hjørring Vinduer|Grønbæk Gartneri
        """
    ),
    forms=_words("ApS|A/S|I/S|P/S|K/S|A.m.b.a.|& Søn A/S|Holding ApS|Ejendomme ApS|IVS"),
    people=_words(
        """
        Søren Kjær|Bodil Ågård|Jørgen Mølgaard|Ulla Nørgaard|Bjarne Østergaard|Kirsten Skjødt|
        Åge Bæk|Lærke Thøgersen|Ib Sølvsten|Anne-Mette Lørup|Flemming Hæstrup|Rikke Vestergård|
        Preben Wøldike|Zenia Quistgaard|Niels Xander Fyhn
        """
    ),
    streets=_words(
        """
        Hovedgaden|Nørregade|Søndergade|Østerbrogade|Strandvejen|Åboulevarden|Kirkestræde|Møllevej|
        Lærkevænget|Postboks
        """
    ),
    places=_words(
        """
        KØBENHAVN K|Århus C|Odense|AALBORG|Tønder|Næstved|Helsingør|Rønne|Køge|Sønderborg|Hillerød|
        Nykøbing F|Ærøskøbing
        """
    ),
    items=_words(
        """
        Konsulentydelse|Arbejdsløn|Kørsel|Skruer 5×60|Maling hvid|Kopipapir A4|Årsabonnement|
        Leje af trailer|Snerydning|Vinduespudsning|Kabel 3×1,5|Fragt|Rør og fittings|Blæk sort|
        Bøger|Smørrebrød|Møde|Rensning af tagrende|Træpiller|Gødning|Dæk 195/65 R15
        """
    ),
    openings=_words(
        """
        Bestyrelsen|Selskabet|Foreningen|Generalforsamlingen|Revisor|Lejeren|Køberen|Sælgeren|
        Direktionen|Koncernen|Kommunen|Skattestyrelsen|Banken|Parterne|Leverandøren|
        I årets løb har selskabet|Efter ledelsens opfattelse|Ejerforeningen
        """
    ),
    verbs=_words(
        """
        har besluttet at|foreslår at|vurderer at|har ansvaret for at|forventer at|
        har fået til opgave at|er forpligtet til at|kan efter aftalen|skal senest den 1. juli|
        ønsker at|har godkendt at|bør ifølge loven
        """
    ),
    endings=_words(
        """
        udlodde 50 t.kr. i udbytte|opsige lejemålet|betale varerne forud|udskifte varmepumpen|
        øge omsætningen med 6 %|ansætte to nye medarbejdere|fradrage købsmomsen|
        indsende årsrapporten til Erhvervsstyrelsen|optage et nyt lån|nedsætte fællesudgifterne|
        måle varelageret til kostpris eller nettorealisationsværdi|male bygningen udvendigt|
        følge udviklingen på markedet|flytte til større lokaler på Fyn|
        udføre vedligeholdelse af kajen
        """
    ),
    pairs=_words(
        """
        før|for|får|far|hår|har|når|nar|løs|los|lås|las|søg|sog|bør|bor|båd|bad|dør|dor|år|ar|ær|ør|
        øl|ål|al|må|ma|mø|køb|råd|rad|rød|så|sa|sø|tå|ta|tø|læ|la|lå|være|vare|våre|øre|ære|åre|å|a|
        ø|o|æ|e|på|pa|nå|blå|bla|gør|gor|sær|sår|mænd|mand
        """
    ),
    page="Side",
)

# Icelandic with the letters of the `nordic` charset only: corpora and `nordic-ext` supply words
# with á é í ó ú ý.
ICELANDIC = Vocabulary(
    language="is",
    thousands=(".", ".", ".", " ", ""),
    decimal=",",
    currency=("kr.", "ISK", "kr.", "kr", "þ.kr.", "m.kr.", "EUR", "€"),
    months=_words(
        """
        mars|september|desember|apr.|sept.|okt.|des.|feb.|nóvember|október|maí|júní|júlí|ágúst|
        janúar|febrúar|apríl
        """
    ),
    headings=_words(
        """
        Rekstrarreikningur|Efnahagsreikningur|Eignir|Skuldir|Skýringar|Reikningur|Kreditreikningur|
        Yfirlit|Greiðsluseðill|Fundargerð|Tilboð|Samningur|Launaseðill|Viðskiptayfirlit|
        Skattframtal|Fylgiskjal|Ársreikningur|Sjóðstreymi|Eigið fé|Kvittun
        """
    ),
    accounts=_words(
        """
        Rekstrartekjur|Aðrar tekjur|Kostnaðarverð seldra vara|Laun og launatengd gjöld|
        Annar rekstrarkostnaður|Afskriftir|Vaxtatekjur|Vaxtagjöld|Tekjuskattur|Hagnaður ársins|
        Viðskiptakröfur|Birgðir|Handbært fé|Hlutafé|Óráðstafað eigið fé|Viðskiptaskuldir|
        Aðrar skammtímaskuldir|Eignir samtals|Skuldir samtals|Fasteignir og lóðir|Leiga|
        Rafmagn og hiti|Orlof|Tryggingar|Burðargjald|Staða alls|Fyrirframgreitt|Virðisaukaskattur|
        Launagreiðslur|Ferðakostnaður|Þjónustugjöld
        """
    ),
    labels=_words(
        """
        Reikningsnr.|Dagsetning|Gjalddagi|Eindagi|Kennitala|Viðskiptamaður|Tilvísun|Til greiðslu|
        Samtals|VSK|VSK-nr.|Upphæð|Magn|Verð|Eining|Afsláttur|Vörunr.|Lýsing|Heimilisfang|Netfang|
        Sími|Banki|Höfuðbók|Reikningur|Staða|Bls.|Samþykkt|Dags.|Nr.
        """
    ),
    units=_words("stk.|kg|klst.|m|ltr.|pk.|dagar|mán.|km|tonn|par|kassi"),
    companies=_words(
        """
        Norðurljós|Bakkavör|Fjarðabyggð|Þorbjörg|Sandgerði útgerð|Brekkan bakstur|Vesturbær|
        Höfði fasteignir|Dalvegur verslun|Skipaafgreiðslan|Grænahlíð|Húsfélagið Ægir|Hafnarstjórn|
        Öxi verktakar|Þverá
        """
    ),
    forms=_words("ehf.|hf.|slf.|sf.|ohf.|ses."),
    people=_words(
        """
        Þorsteinn Björnsson|Guðrún Ægisdóttir|Sigurður Þorvaldsson|Ásta Önundardóttir|
        Björn Hjörleifsson|Heiða Þórðardóttir|Hörður Andrésson|Eygló Baldursdóttir|Örn Friðriksson|
        Ragnheiður Sæmundsdóttir|Davíð Gunnarsson|Þuríður Magnúsdóttir
        """
    ),
    streets=_words(
        """
        Laugavegur|Hafnargata|Skipholt|Strandgata|Öldugata|Þingholt|Borgartún|Norðurgata|Ægisgata|
        Bæjarhraun|Suðurlandsbraut
        """
    ),
    places=_words(
        """
        Reykjanesbær|Hafnarfjörður|Akureyri|Selfoss|Egilsstaðir|Garðabær|Vestmannaeyjar|Húsavík|
        Reykjavík|Seyðisfjörður
        """
    ),
    items=_words(
        """
        Sementspoki|Olía|Fiskur flattur|Skrifstofuvörur|Vinna|Akstur|Prentun|Pappír A4|Þrif|Viðgerð|
        Hugbúnaður|Sendingargjald|Leiga bifreiðar|Málning hvít|Skrúfur 4×50|Gler|Ullarband|
        Timbur 2×4|Dekk|Eldsneyti|Gisting
        """
    ),
    openings=_words(
        """
        Stjórn félagsins|Hluthafar|Fundurinn|Skattstjóri|Bankinn|Leigutaki|Kaupandi|Seljandi|
        Endurskoðandi|Sveitarfélagið|Félagið|Samkvæmt lögum|Samningsaðilar|
        Eftir lok reikningsársins|Stofnunin
        """
    ),
    verbs=_words(
        """
        hefur ákveðið að|leggur til að|skal|getur|ber að|hyggst|þarf að|er heimilt að|mun ekki|
        vill helst|verður að
        """
    ),
    endings=_words(
        """
        greiða arð til hluthafa|segja upp leigusamningi|afhenda vörurnar fyrir 1. mars|
        hækka gjaldið um 5 %|selja eignina|ráða tvo starfsmenn|skila skattframtali|taka nýtt lán|
        breyta verðskrá|halda aðalfund|meta birgðir til kostnaðarverðs|mála þakið|
        fylgja reglum um bókhald|greiða virðisaukaskatt af sölu|flytja starfsemina norður
        """
    ),
    pairs=_words(
        """
        það|þad|þá|bað|bað|bad|við|vid|viða|orð|ord|öld|old|ör|or|önn|onn|þar|bar|par|þau|pau|eða|
        eda|með|med|verð|verd|að|ad|æ|ae|a|þ|p|b|ð|d|o|ö|fær|far|ræða|rada|höfn|hofn|mörk|mork|
        störf|storf|sögn|sogn|veð|veg|blað|blad|stað|stad
        """
    ),
    page="Bls.",
)

VOCABULARIES: dict[str, Vocabulary] = {
    v.language: v for v in (SWEDISH, NORWEGIAN, DANISH, ICELANDIC)
}
