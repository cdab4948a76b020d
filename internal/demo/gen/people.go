package main

// A culture is a share of the customers, with the names and the places that go
// together.
type culture struct {
	share    int // of all shares
	country  string
	given    []string
	family   []string
	streets  []string // "%d" takes the house number
	towns    []town
	phone    string // a range set aside for fiction; "#" is a digit
	mailable bool   // whether an address can be made out of the name
}

type town struct{ name, postcode string }

var (
	british = []town{{"Leeds", "LS6 2##"}, {"Bristol", "BS8 4##"}, {"Sheffield", "S10 1##"}, {"Edinburgh", "EH3 9##"}, {"Cardiff", "CF24 3##"}, {"Keswick", "CA12 5##"}, {"Bradford", "BD7 1##"}, {"Leicester", "LE2 3##"}}
	german  = []town{{"Hamburg", "20###"}, {"Berlin", "10###"}, {"Freiburg", "79###"}, {"München", "80###"}, {"Leipzig", "04###"}}
	french  = []town{{"Lyon", "6900#"}, {"Grenoble", "38000"}, {"Annecy", "74000"}, {"Strasbourg", "67000"}}
)

var (
	britishStreets = []string{"%d Mill Lane", "%d Station Road", "%d Park Terrace", "%d Church Street", "%d Moorside", "%d Victoria Road", "%d The Crescent"}
	germanStreets  = []string{"Lindenstraße %d", "Am Mühlbach %d", "Gartenweg %d", "Schillerstraße %d", "Kastanienallee %d"}
	frenchStreets  = []string{"%d rue des Lilas", "%d avenue Jean Jaurès", "%d chemin du Moulin", "%d place de la Gare"}
)

const (
	britishPhone = "+44 7700 900###"
	germanPhone  = "+49 30 23125 ###"
	frenchPhone  = "+33 1 99 00 ## ##"
)

var cultures = []culture{
	{30, "GB", []string{"Olivia", "Jack", "Amelia", "Harry", "Isla", "George", "Ava", "Oscar", "Grace", "Thomas", "Freya", "William", "Poppy", "Callum", "Eilidh", "Rhys", "Megan", "Alistair", "Hannah", "Joseph"}, []string{"Smith", "Taylor", "Hughes", "Campbell", "Wright", "Ellis", "Murray", "Shaw", "Hartley", "Fletcher", "Price", "Sutcliffe", "Barlow", "Robertson", "O'Neill", "Whitaker", "Lloyd-Jones", "Ashworth", "Pryce", "Thornton"}, britishStreets, british, britishPhone, true},
	{8, "GB", []string{"Priya", "Arjun", "Ananya", "Rohan", "Meera", "Vikram", "Kavya", "Sanjay", "Nisha", "Harpreet", "Simran", "Imran", "Fatima", "Zainab", "Bilal"}, []string{"Patel", "Sharma", "Singh", "Kaur", "Iyer", "Raman", "Hussain", "Begum", "Chaudhry", "Mukherjee", "Nair", "Gill"}, britishStreets, british, britishPhone, true},
	{5, "GB", []string{"Chidi", "Ngozi", "Amara", "Kwame", "Abena", "Tunde", "Folake", "Kofi", "Yetunde", "Emeka"}, []string{"Okafor", "Adeyemi", "Mensah", "Boateng", "Nwosu", "Eze", "Owusu", "Balogun", "Achebe"}, britishStreets, british, britishPhone, true},
	{4, "GB", []string{"Wei", "Mei", "Xiaoming", "Yan", "Jia", "Linh", "Minh", "Hương", "Tuấn"}, []string{"Chen", "Wang", "Liu", "Zhang", "Huang", "Nguyễn", "Trần", "Lê", "Phạm"}, britishStreets, british, britishPhone, true},
	{5, "GB", []string{"Agnieszka", "Paweł", "Zofia", "Michał", "Katarzyna", "Łukasz", "Małgorzata", "Jakub", "Wojciech"}, []string{"Kowalska", "Nowak", "Wiśniewski", "Wójcik", "Dąbrowska", "Zieliński", "Szymańska", "Król"}, britishStreets, british, britishPhone, true},
	{16, "DE", []string{"Anna", "Lukas", "Lena", "Jonas", "Marie", "Felix", "Katrin", "Jürgen", "Sabine", "Björn", "Greta", "Matthias", "Ulrike", "Sören", "Annegret"}, []string{"Müller", "Schmidt", "Schneider", "Fischer", "Weber", "Schäfer", "Köhler", "Groß", "Jäger", "Böhm", "Vogel", "Krüger", "von Stetten", "Petersen"}, germanStreets, german, germanPhone, true},
	{5, "DE", []string{"Elif", "Mehmet", "Ayşe", "Emre", "Zeynep", "Mustafa", "Gülsüm", "Çağla", "Özgür"}, []string{"Yılmaz", "Kaya", "Demir", "Şahin", "Çelik", "Öztürk", "Aydın", "Doğan"}, germanStreets, german, germanPhone, true},
	{9, "FR", []string{"Camille", "Hugo", "Léa", "Louis", "Chloé", "Jules", "Manon", "Théo", "Anaïs", "François", "Hélène", "Benoît"}, []string{"Martin", "Bernard", "Dubois", "Moreau", "Lefèvre", "Girard", "Fournier", "Rousseau", "Béranger", "d'Aubigné"}, frenchStreets, french, frenchPhone, true},
	{5, "FR", []string{"Yasmine", "Karim", "Amina", "Youssef", "Leïla", "Mehdi", "Nour", "Samir", "Salma"}, []string{"Benali", "Haddad", "El Amrani", "Bensaïd", "Cherif", "Mansouri", "Yusuf", "Toumi"}, frenchStreets, french, frenchPhone, true},
	{5, "IT", []string{"Giulia", "Francesco", "Sofia", "Matteo", "Chiara", "Lorenzo", "Niccolò", "Alessia"}, []string{"Rossi", "Russo", "Ferrari", "Esposito", "Bianchi", "Romano", "D'Angelo", "Galli"}, []string{"Via Garibaldi %d", "Via Roma %d", "Corso Italia %d"}, []town{{"Torino", "101##"}, {"Bolzano", "39100"}, {"Bergamo", "241##"}}, "", true},
	{5, "ES", []string{"Lucía", "Martín", "Sofía", "Daniel", "María José", "Álvaro", "Iñigo", "Carmen"}, []string{"García López", "Fernández", "Rodríguez Vega", "Muñoz", "Ibáñez", "Etxeberria", "Castro"}, []string{"Calle Mayor %d", "Calle del Sol %d", "Avenida de la Paz %d"}, []town{{"Bilbao", "480##"}, {"Granada", "180##"}, {"Zaragoza", "500##"}}, "", true},
	{3, "NO", []string{"Ingrid", "Lars", "Åse", "Håkon", "Maren", "Øystein", "Solveig"}, []string{"Hansen", "Olsen", "Bjørnstad", "Lindqvist", "Sørensen", "Ødegård"}, []string{"Storgata %d", "Skogveien %d"}, []town{{"Bergen", "50##"}, {"Tromsø", "90##"}}, "", true},
	{1, "GR", []string{"Γιώργος", "Ελένη", "Νίκος", "Κατερίνα"}, []string{"Παπαδόπουλος", "Νικολάου", "Γεωργίου"}, []string{"Ερμού %d", "Αθηνάς %d"}, []town{{"Αθήνα", "105 ##"}, {"Θεσσαλονίκη", "546 ##"}}, "", false},
	{1, "DE", []string{"Олена", "Андрій", "Ірина", "Тарас"}, []string{"Шевченко", "Коваленко", "Мельник"}, germanStreets, german, germanPhone, false},
	{1, "DE", []string{"أحمد", "ليلى", "عمر", "أمينة"}, []string{"الحسن", "حداد", "النجار"}, germanStreets, german, germanPhone, false},
}
