package imapsync

import (
	"strings"
	"sync"
)

// localised are the names mail programs and servers give folders of special use where
// the server does not say so. Names are compared without case.
type localised struct {
	lang                               string // BCP 47; "" = names of providers and programs
	sent, drafts, trash, junk, archive []string
}

// catalogue: an earlier row wins where two languages share a name.
var catalogue = []localised{
	{
		"", // Exchange, Outlook, Apple Mail, Thunderbird, Yahoo, Gmail, GMX, AOL, Lotus, Courier, SquirrelMail
		[]string{"Sent Messages", "Sent Items", "Sent Mail", "Sent-Mail", "SentMail", "sent_mail", "Sent_Items"},
		[]string{"Draft", "Draft Messages", "Unsent Messages"},
		[]string{"Deleted Messages", "Deleted Items", "Trash Can", "Bin", "Deleted"},
		[]string{"Bulk Mail", "Bulk", "Spam Mail", "Junk E-mail", "Junk Email", "Junk Mail", "Junk-E-Mail", "Spamverdacht"},
		[]string{"Archives", "Archived"},
	},
	{"en", []string{"Sent"}, []string{"Drafts"}, []string{"Trash"}, []string{"Junk", "Spam"}, []string{"Archive"}},
	{"de", []string{"Gesendet", "Gesendete Objekte", "Gesendete Elemente", "Gesendete Nachrichten", "Postausgang gesendet"}, []string{"Entwürfe", "Entwurf"}, []string{"Papierkorb", "Gelöscht", "Gelöschte Objekte", "Gelöschte Elemente"}, []string{"Junk-E-Mail", "Unerwünscht", "Werbung", "Unerwünschte Werbung", "Spamverdacht"}, []string{"Archiv"}},
	{"fr", []string{"Envoyés", "Éléments envoyés", "Messages envoyés", "Objets envoyés", "Courrier envoyé"}, []string{"Brouillons", "Brouillon"}, []string{"Corbeille", "Éléments supprimés", "Messages supprimés"}, []string{"Indésirables", "Courrier indésirable", "Pourriel", "Pourriels"}, []string{"Archives", "Archive"}},
	{"es", []string{"Enviados", "Elementos enviados", "Mensajes enviados", "Correo enviado"}, []string{"Borradores", "Borrador"}, []string{"Papelera", "Elementos eliminados", "Eliminados"}, []string{"Correo no deseado", "Correo basura", "No deseado"}, []string{"Archivo", "Archivados"}},
	{"pt", []string{"Enviadas", "Itens Enviados", "Itens enviados", "Mensagens enviadas", "E-mails enviados", "Correio enviado"}, []string{"Rascunhos", "Rascunho"}, []string{"Lixeira", "Lixo", "Itens Excluídos", "Itens eliminados", "Reciclagem"}, []string{"Lixo Eletrônico", "Correio não solicitado", "Lixo eletrónico"}, []string{"Arquivo", "Arquivo Morto", "Arquivados"}},
	{"it", []string{"Inviati", "Posta inviata", "Messaggi inviati", "Elementi inviati"}, []string{"Bozze", "Bozza"}, []string{"Cestino", "Posta eliminata", "Elementi eliminati"}, []string{"Posta indesiderata", "Indesiderata"}, []string{"Archivio", "Archiviati"}},
	{"nl", []string{"Verzonden", "Verzonden items", "Verzonden objecten", "Verzonden berichten"}, []string{"Concepten", "Concept"}, []string{"Prullenbak", "Prullenmand", "Verwijderde items"}, []string{"Ongewenste e-mail", "Ongewenst", "Ongewenste reclame"}, []string{"Archief"}},
	{"sv", []string{"Skickat", "Skickade", "Skickade objekt", "Skickade meddelanden"}, []string{"Utkast"}, []string{"Papperskorg", "Papperskorgen", "Borttagna objekt", "Borttaget"}, []string{"Skräppost"}, []string{"Arkiv"}},
	{"da", []string{"Sendt", "Sendt post", "Sendte elementer"}, []string{"Kladder", "Kladde"}, []string{"Papirkurv", "Slettet post", "Slettede elementer"}, []string{"Uønsket mail", "Uønsket post", "Uønsket e-mail"}, []string{"Arkiv"}},
	{"no", []string{"Sendte elementer", "Sendt e-post", "Sende"}, []string{"Utkast", "Kladder"}, []string{"Papirkorg", "Søppel", "Slettede elementer", "Papirkurven"}, []string{"Søppelpost", "Uønsket e-post"}, []string{"Arkivert"}},
	{"fi", []string{"Lähetetyt", "Lähetetyt viestit", "Lähetetyt kohteet"}, []string{"Luonnokset", "Luonnos"}, []string{"Roskakori", "Poistetut", "Poistetut kohteet"}, []string{"Roskaposti"}, []string{"Arkisto"}},
	{"is", []string{"Sent skeyti", "Sendir hlutir"}, []string{"Drög"}, []string{"Rusl", "Eydd skeyti"}, []string{"Ruslpóstur"}, []string{"Safn"}},
	{"pl", []string{"Wysłane", "Elementy wysłane", "Wiadomości wysłane"}, []string{"Szkice", "Robocze", "Wersje robocze", "Kopie robocze"}, []string{"Kosz", "Elementy usunięte", "Usunięte"}, []string{"Wiadomości-śmieci", "Niechciane", "Wiadomości śmieci"}, []string{"Archiwum"}},
	{"cs", []string{"Odeslané", "Odeslaná pošta", "Odeslané zprávy"}, []string{"Koncepty", "Rozepsané"}, []string{"Koš", "Odstraněná pošta"}, []string{"Nevyžádaná pošta", "Nevyžádané"}, []string{"Archiv", "Archív"}},
	{"sk", []string{"Odoslané", "Odoslaná pošta", "Odoslané položky"}, []string{"Koncepty", "Rozpísané"}, []string{"Kôš", "Odstránené položky", "Odstránená pošta"}, []string{"Nevyžiadaná pošta", "Nevyžiadané"}, []string{"Archív"}},
	{"hu", []string{"Elküldött", "Elküldött elemek", "Elküldött üzenetek", "Elküldve"}, []string{"Piszkozatok", "Piszkozat"}, []string{"Kuka", "Lomtár", "Törölt elemek"}, []string{"Levélszemét"}, []string{"Archívum"}},
	{"ro", []string{"Trimise", "Elemente trimise", "Mesaje trimise"}, []string{"Ciorne", "Schițe"}, []string{"Coș de gunoi", "Coș", "Elemente șterse", "Gunoi"}, []string{"Mesaje nedorite", "E-mail nedorit", "Nedorite"}, []string{"Arhivă", "Arhiva"}},
	{"bg", []string{"Изпратени", "Изпратени съобщения"}, []string{"Чернови"}, []string{"Кошче", "Изтрити"}, []string{"Нежелана поща", "Спам"}, []string{"Архив"}},
	{"ru", []string{"Отправленные", "Исходящие", "Отправленные письма"}, []string{"Черновики"}, []string{"Корзина", "Удаленные", "Удалённые"}, []string{"Спам", "Нежелательная почта", "Рассылки и спам"}, []string{"Архив"}},
	{"uk", []string{"Надіслані", "Відправлені"}, []string{"Чернетки"}, []string{"Кошик", "Видалені"}, []string{"Небажана пошта"}, []string{"Архів"}},
	{"sr", []string{"Послато", "Poslato"}, []string{"Нацрти", "Nacrti"}, []string{"Смеће", "Otpad"}, []string{"Непожељно", "Neželjena pošta"}, []string{"Архива", "Arhiva"}},
	{"hr", []string{"Poslano", "Poslane stavke", "Poslane poruke"}, []string{"Skice", "Nacrti"}, []string{"Smeće", "Izbrisane stavke"}, []string{"Neželjena e-pošta"}, []string{"Arhiv"}},
	{"sl", []string{"Poslano", "Poslani predmeti"}, []string{"Osnutki"}, []string{"Smeti", "Koš", "Izbrisano"}, []string{"Neželena pošta", "Vsiljena pošta"}, []string{"Arhiviraj"}},
	{"el", []string{"Απεσταλμένα", "Απεσταλμένα μηνύματα"}, []string{"Πρόχειρα"}, []string{"Κάδος", "Κάδος απορριμμάτων", "Διαγραμμένα"}, []string{"Ανεπιθύμητα", "Ανεπιθύμητη αλληλογραφία"}, []string{"Αρχείο", "Αρχειοθήκη"}},
	{"tr", []string{"Gönderilmiş", "Gönderilenler", "Gönderilmiş Öğeler", "Gönderilmiş Postalar"}, []string{"Taslaklar", "Taslak"}, []string{"Çöp", "Çöp Kutusu", "Silinmiş Öğeler"}, []string{"İstenmeyen", "Gereksiz", "Önemsiz E-posta", "Gereksiz E-posta"}, []string{"Arşiv"}},
	{"he", []string{"נשלח", "דואר יוצא", "פריטים שנשלחו"}, []string{"טיוטות"}, []string{"אשפה", "פריטים שנמחקו"}, []string{"דואר זבל", "ספאם"}, []string{"ארכיון"}},
	{"ar", []string{"المرسلة", "البريد المرسل", "العناصر المرسلة", "الرسائل المرسلة"}, []string{"المسودات", "مسودات"}, []string{"المهملات", "العناصر المحذوفة", "سلة المهملات"}, []string{"البريد غير الهام", "البريد العشوائي", "بريد مزعج"}, []string{"الأرشيف", "أرشيف"}},
	{"fa", []string{"فرستاده", "ارسال شده", "موارد ارسال شده"}, []string{"پیش\u200cنویس\u200cها", "پیش نویس ها"}, []string{"زباله\u200cدان", "موارد حذف شده"}, []string{"هرزنامه"}, []string{"بایگانی"}},
	{"hi", []string{"भेजे गए", "भेजे गए आइटम", "भेजा गया मेल"}, []string{"ड्राफ़्ट", "ड्राफ्ट"}, []string{"कचरा", "ट्रैश", "हटाए गए आइटम"}, []string{"जंक ईमेल", "स्पैम"}, []string{"संग्रह", "आर्काइव"}},
	{"th", []string{"ส่งแล้ว", "จดหมายที่ส่งแล้ว", "รายการที่ถูกส่ง"}, []string{"ร่างจดหมาย", "ฉบับร่าง", "แบบร่าง"}, []string{"ถังขยะ", "รายการที่ถูกลบ"}, []string{"จดหมายขยะ", "อีเมลขยะ"}, []string{"เก็บถาวร"}},
	{"vi", []string{"Đã gửi", "Thư đã gửi", "Mục đã Gửi"}, []string{"Thư nháp", "Nháp", "Bản nháp"}, []string{"Thùng rác", "Mục đã Xóa"}, []string{"Thư rác", "Email Rác"}, []string{"Lưu trữ"}},
	{"id", []string{"Terkirim", "Surat Terkirim", "Item Terkirim"}, []string{"Draf", "Konsep"}, []string{"Tong Sampah", "Sampah", "Item yang Dihapus"}, []string{"Email Sampah", "Surel Sampah"}, []string{"Arsip"}},
	{"zh", []string{"已发送", "已发送邮件", "已傳送郵件", "寄件備份", "已发邮件", "已寄出", "寄件備份匣"}, []string{"草稿", "草稿箱", "草稿夹", "草稿匣"}, []string{"已删除", "已删除邮件", "垃圾桶", "已刪除的郵件", "刪除的郵件", "废纸篓", "回收桶"}, []string{"垃圾邮件", "垃圾郵件", "垃圾箱", "广告邮件"}, []string{"存档", "归档", "封存", "封存郵件"}},
	{"ja", []string{"送信済み", "送信済みアイテム", "送信済みメール", "送信済みトレイ"}, []string{"下書き"}, []string{"ゴミ箱", "ごみ箱", "削除済みアイテム", "削除済みトレイ"}, []string{"迷惑メール"}, []string{"アーカイブ", "保存用"}},
	{"ko", []string{"보낸편지함", "보낸 편지함", "보낸메일함", "보낸 메일함"}, []string{"임시보관함", "임시 보관함", "임시보관"}, []string{"휴지통", "지운 편지함", "지운편지함"}, []string{"스팸메일함", "정크 메일", "스팸함", "스팸편지함"}, []string{"보관함", "보관", "보관 편지함"}},
	{"ca", []string{"Enviats", "Elements enviats"}, []string{"Esborranys"}, []string{"Paperera", "Elements suprimits"}, []string{"Correu brossa"}, []string{"Arxiu"}},
	{"eu", []string{"Bidalitakoak", "Bidalita"}, []string{"Zirriborroak"}, []string{"Zakarrontzia"}, []string{"Zabor-posta"}, []string{"Artxiboa"}},
	{"gl", []string{"Correo enviado"}, []string{"Borradores"}, []string{"Lixo", "Papeleira"}, []string{"Correo lixo"}, []string{"Arquivo"}},
	{"et", []string{"Saadetud", "Saadetud kirjad"}, []string{"Mustandid"}, []string{"Prügikast", "Kustutatud"}, []string{"Rämpspost"}, []string{"Arhiiv"}},
	{"lv", []string{"Nosūtītie", "Nosūtītās"}, []string{"Melnraksti"}, []string{"Miskaste", "Atkritne", "Dzēstie"}, []string{"Mēstules", "Surogātpasts"}, []string{"Arhīvs"}},
	{"lt", []string{"Išsiųsta", "Išsiųsti", "Išsiųstieji"}, []string{"Juodraščiai"}, []string{"Šiukšlinė", "Šiukšlės", "Ištrinti"}, []string{"Brukalas", "Šlamštas"}, []string{"Archyvas"}},
}

// roleNames is the catalogue by folded name, built once.
var roleNames = sync.OnceValue(func() map[string]string {
	m := map[string]string{
		"all mail": RoleAll, "starred": RoleFlagged, "important": RoleImportant, // [Gmail]/…
	}
	add := func(role string, names []string) {
		for _, n := range names {
			if key := foldName(n); m[key] == "" {
				m[key] = role
			}
		}
	}
	for _, l := range catalogue {
		add(RoleSent, l.sent)
		add(RoleDrafts, l.drafts)
		add(RoleTrash, l.trash)
		add(RoleJunk, l.junk)
		add(RoleArchive, l.archive)
	}
	return m
})

// foldName makes names comparable.
func foldName(s string) string { return strings.ToLower(strings.TrimSpace(s)) }
